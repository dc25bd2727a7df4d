"""Token ids of a text, and where its tokens begin, found while other threads go on: whatever its length, nobody's stream waits.

The library's `encode` holds the interpreter until all of a text is done, seconds for megabytes; its batches do not, and are
faster. Pure.
"""

from array import array
from collections.abc import Iterator

from tokenizers import Tokenizer

_SLICE = 16_384


def token_ids(tokenizer: Tokenizer, text: str, *, special_tokens: bool) -> tuple[int, ...]:
    """`special_tokens`: with those that the model wants around a text."""
    return tuple(tokenizer.encode_batch_fast([text], add_special_tokens=special_tokens)[0].ids)


def token_starts(tokenizer: Tokenizer, text: str) -> "array[int]":
    """For each token the place of the character that it begins in. In slices, because what the library returns of places holds
    the interpreter as well: a token or two may differ where two of them meet."""
    starts = array("I")
    for place, part in _slices(text):
        (encoding,) = tokenizer.encode_batch([part], add_special_tokens=False)
        starts.extend(place + start for start, _ in encoding.offsets)
    return starts


def _slices(text: str) -> Iterator[tuple[int, str]]:
    """Each begins with a blank, if there is one, as most tokenizers' words do."""
    start = 0
    while start < len(text):
        end = start + _SLICE
        if end < len(text):
            blank = max(text.rfind(" ", start + 1, end), text.rfind("\n", start + 1, end))
            end = blank if blank > 0 else end
        yield start, text[start:end]
        start = end

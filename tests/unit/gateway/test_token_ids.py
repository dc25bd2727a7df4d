"""Long texts are tokenized while others go on, and where their tokens begin is found slice by slice."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from localmodel.gateway import token_ids as module
from localmodel.gateway.token_ids import token_ids, token_starts


def byte_level() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("w", "o"), ("r", "d"), ("wo", "rd"), ("\u0120", "word")]
    words = [*alphabet, *(left + right for left, right in merges)]
    tokenizer = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


TOKENIZER = byte_level()


async def beats_during(work: Callable[[], object]) -> int:
    """How often the event loop comes round while a thread works."""
    running = asyncio.create_task(asyncio.to_thread(work))
    beats = 0
    while not running.done():
        await asyncio.sleep(0.001)
        beats += 1
    await running
    return beats


async def test_everybody_else_goes_on_meanwhile() -> None:
    text = "word " * 400_000
    assert await beats_during(lambda: token_ids(TOKENIZER, text, special_tokens=False)) >= 10
    assert await beats_during(lambda: token_starts(TOKENIZER, text)) >= 10


@given(st.text(st.sampled_from("word \n\u65e5\U0001f600"), max_size=60))
def test_as_the_library_says(text: str) -> None:
    whole = TOKENIZER.encode(text)
    assert token_ids(TOKENIZER, text, special_tokens=False) == tuple(whole.ids)
    assert list(token_starts(TOKENIZER, text)) == [start for start, _ in whole.offsets]


@pytest.mark.parametrize("text", ["a word " * 30, "word" * 50, "\u65e5\u672c" * 40, " " * 100, "", "word\n\nword " * 20])
def test_slices_begin_at_blanks_and_cut_no_character(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [start for start, _ in TOKENIZER.encode(text).offsets]
    monkeypatch.setattr(module, "_SLICE", 16)
    starts = list(token_starts(TOKENIZER, text))
    assert starts == sorted(starts) and set(whole) <= set(starts)
    assert len(starts) <= len(whole) + len(text) // 16 * 2
    if text.startswith("a word"):
        assert starts == whole

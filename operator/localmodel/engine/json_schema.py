"""JSON schemas as constraints of an answer, by llguidance.

Why it exists: the only module that knows the library. Compiling may take a second for a large schema, so it happens off
the engine's thread and is kept; a mask takes some ten microseconds and is asked for on the engine's thread.
"""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Collection
from collections.abc import Sequence as Ids
from pathlib import Path

from llguidance import LLMatcher, LLTokenizer

from localmodel.api.events import SCHEMA_TOO_COMPLEX
from localmodel.engine.constraint import ALL_ALLOWED, Constraint, ConstraintError, Mask, Masks
from localmodel.engine.errors import Refused

KEPT_SCHEMAS = 32
WHITESPACE = r"[ \n\r\t]{0,32}"
"""Between two tokens of JSON. Without a limit a small model may write nothing else until its last token."""
OPTIONS = {"whitespace_pattern": WHITESPACE, "lenient": False}


class JsonSchemas:
    """Compiles schemas for one model. For any thread."""

    def __init__(self, tokenizer_file: Path, vocabulary: int, stop_tokens: Collection[int]) -> None:
        """`vocabulary`: how many logits the network has. Nothing is read before `prepare` or the first schema."""
        self._file = tokenizer_file
        self._vocabulary = vocabulary
        self._stop_tokens = sorted(stop_tokens)
        self._lock = threading.Lock()
        self._tokenizer: LLTokenizer | None = None
        self._compiled: OrderedDict[str, LLMatcher] = OrderedDict()

    def prepare(self) -> None:
        """Reads the tokenizer: up to a second in which no other thread of Python runs, better spent while nobody is answered."""
        with self._lock, contextlib.suppress(Refused, OSError):
            if self._tokenizer is None and self._stop_tokens:
                self._tokenizer = self._open_tokenizer()

    def compile(self, schema: str) -> Constraint:
        """A fresh constraint for one sequence. Raises Refused with the library's reason."""
        with self._lock:
            matcher = self._compiled.get(schema)
            if matcher is None:
                matcher = self._compiled[schema] = self._build(schema)
            self._compiled.move_to_end(schema)
            while len(self._compiled) > KEPT_SCHEMAS:
                self._compiled.popitem(last=False)
            return _Follower(matcher.deep_copy())

    def _build(self, schema: str) -> LLMatcher:
        if not self._stop_tokens:
            raise Refused("invalid_request", "response_format: the model names no end-of-sequence token, so no document can end")
        try:
            grammar = LLMatcher.grammar_from_json_schema(schema, overrides=OPTIONS)
        except ValueError as error:
            raise _refuse(str(error)) from error
        if self._tokenizer is None:
            self._tokenizer = self._open_tokenizer()
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0)
        if not matcher.is_error():
            matcher.compute_bitmask()  # what fails at the first token shall fail here
        if matcher.is_error():
            raise _refuse(_first_line(matcher.get_error()))
        return matcher

    def _open_tokenizer(self) -> LLTokenizer:
        try:
            text, slices = self._file.read_text(encoding="utf-8"), LLTokenizer.json_slices()
            return LLTokenizer(text, n_vocab=self._vocabulary, eos_token=self._stop_tokens, slices=slices)
        except ValueError as error:
            reason = f"response_format: the model's tokenizer can't be constrained: {error}"
            raise Refused("invalid_request", reason) from error


class _Follower:
    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher
        self._seen = 0

    def fill_mask(self, answer: Ids[int], mask: Mask) -> None:
        if len(answer) > self._seen:
            self._matcher.consume_tokens(list(answer[self._seen :]))
            self._seen = len(answer)
        assert mask.flags.c_contiguous
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        if self._matcher.is_error():
            reason = _first_line(self._matcher.get_error())
            raise ConstraintError(f"{SCHEMA_TOO_COMPLEX}the JSON schema is too complex to follow: {reason}")

    def look_ahead(self, draft: Ids[int], masks: Masks) -> None:
        masks[:] = ALL_ALLOWED
        ahead = self._matcher.deep_copy()
        for token, mask in zip(draft, masks, strict=True):
            if ahead.is_stopped() or not ahead.try_consume_tokens([token]):
                return
            assert mask.flags.c_contiguous
            ahead.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
            if ahead.is_error():
                mask[:] = ALL_ALLOWED
                return


_IN_OUR_WORDS = {
    "NoExtensionBias": "it refers to itself without anything between",
    " Enable 'coerce_one_of' option to approximate oneOf with anyOf": " Use anyOf",
}
"""The library speaks to programmers."""


def _refuse(reason: str) -> Refused:
    for theirs, ours in _IN_OUR_WORDS.items():
        reason = reason.replace(theirs, ours)
    return Refused("invalid_request", f"response_format: the JSON schema can't be used: {reason}")


def _first_line(message: str) -> str:
    """Without the dump of the parser's state that the library adds."""
    lines = [line.strip() for line in message.partition("<state>")[0].splitlines()]
    return " ".join(line for line in lines if line) or "unknown"

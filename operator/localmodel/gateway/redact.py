"""Takes out of a text what names a person: e-mail addresses, telephone, ID card and bank card numbers, and own patterns.

Pure. Searching is RE2's, whose time is linear in the text and which lets other threads run; only what it finds is looked at in
Python. Everything found is united before anything is replaced, so that one finding never hides a part of another.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from time import monotonic, thread_time

import re2

from localmodel.api.gateway import RedactKind
from localmodel.gateway.identifiers import RUN, find_numbers
from localmodel.gateway.plain_characters import to_plain

_LETTERS = r"\p{Latin}\p{Greek}\p{Cyrillic}0-9"
_EMAIL = (
    rf"[{_LETTERS}._%+'\-]+(?:@|%40)"
    rf"(?:(?:[{_LETTERS}\-]+\.)+[\p{{Latin}}\p{{Greek}}\p{{Cyrillic}}]{{2,}}|(?:[\pL\pN\-]+\.)+\pL{{2,}})"
)
_OWN = "Redacted"
_SEPARATOR = "\n\ufdd0\n"
"""Between texts that are searched in one go; no text holds it."""
_MEMORY_BYTES = 1 << 23

Span = tuple[int, int, str]


class BadPattern(ValueError):
    """A pattern that can't be used; the message says why."""


class TooCostly(Exception):
    """The search took longer than it may: what was not searched must not be written."""


class Redactor:
    def __init__(self, kinds: Collection[RedactKind], patterns: Sequence[str] = (), seconds: float = 1.0) -> None:
        """`patterns`: RE2; `^` and `$` match at lines. `seconds`: most processor time of one call. Raises BadPattern."""
        self._digits = frozenset(kinds) - {"Email"}
        self._email = _compile(_EMAIL) if "Email" in kinds else None
        self._run = _compile(RUN) if self._digits else None
        self._own = [_compile_own(pattern) for pattern in patterns]
        self._seconds = seconds

    def redact(self, text: str) -> str:
        """Every finding becomes [Email], [Phone], [IDCard], [BankCard] or [Redacted]. Raises TooCostly."""
        return self._redact(text, self._clock())

    def redact_all(self, texts: Sequence[str]) -> list[str]:
        """Each by itself, searched together where that gives the same."""
        check = self._clock()
        clean = [text.replace("\ufdd0", "\ufffd") if "\ufdd0" in text else text for text in texts]
        parts = self._redact(_SEPARATOR.join(clean), check).split(_SEPARATOR)
        return parts if len(parts) == len(texts) else [self._redact(text, check) for text in clean]

    def _clock(self) -> Callable[[], None]:
        """The wall clock is asked each time, because it costs nothing; the thread's own only when that says it may be over."""
        began, due = thread_time(), monotonic() + self._seconds

        def check() -> None:
            nonlocal due
            if monotonic() > due:
                left = began + self._seconds - thread_time()
                if left < 0:
                    raise TooCostly
                due = monotonic() + left

        return check

    def _redact(self, text: str, check: Callable[[], None]) -> str:
        plain = to_plain(text)
        spans = [*self._find(plain, check)]
        for pattern in self._own:
            for searched in (text,) if plain is text else (text, plain):
                spans += ((*match.span(), _OWN) for match in _matches(pattern, searched, check) if match.end() > match.start())
        return _replace(text, _unite(spans)) if spans else text

    def _find(self, plain: str, check: Callable[[], None]) -> Iterator[Span]:
        if self._email is not None and ("@" in plain or "%40" in plain):
            for match in _matches(self._email, plain, check):
                yield match.start(), match.end(), "Email"
        if self._run is not None:
            for match in _matches(self._run, plain, check):
                at = match.start()
                for start, end, kind in find_numbers(match.group(), check):
                    if kind in self._digits:
                        yield at + start, at + end, kind


def _compile_own(pattern: str) -> "re2._Regexp":
    if _compile(pattern).search("") is not None:
        raise BadPattern(f"{pattern!r} matches the empty text; write one that matches what is to be taken out")
    return _compile(f"(?m:{pattern})")


def _compile(pattern: str) -> "re2._Regexp":
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY_BYTES
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        said = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error)
        raise BadPattern(f"{pattern!r}: {said}; write a regular expression in RE2 syntax") from None


def _matches(pattern: "re2._Regexp", text: str, check: Callable[[], None]) -> "Iterator[re2._Match]":
    for match in pattern.finditer(text):
        check()
        yield match


def _unite(spans: list[Span]) -> list[Span]:
    """Overlapping spans as one, with the kind of the longest."""
    united: list[Span] = []
    longest = 0
    for start, end, kind in sorted(spans):
        if united and start < united[-1][1]:
            begin, stop, named = united[-1]
            united[-1] = begin, max(stop, end), kind if end - start > longest else named
            longest = max(longest, end - start)
        else:
            united.append((start, end, kind))
            longest = end - start
    return united


def _replace(text: str, spans: list[Span]) -> str:
    pieces: list[str] = []
    at = 0
    for start, end, kind in spans:
        pieces += text[at:start], f"[{kind}]"
        at = end
    return "".join([*pieces, text[at:]])

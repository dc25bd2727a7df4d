"""Takes out of a text what names a person: e-mail addresses, telephone, ID card and bank card numbers, and own patterns.

Pure. Own patterns are RE2's, whose time is linear in the text and which lets other threads run. Everything found is united before
anything is replaced, so that one finding never hides a part of another.
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from time import monotonic, thread_time

import re2

from localmodel.api.gateway import RedactKind
from localmodel.gateway import body_search
from localmodel.gateway.emails import Emails
from localmodel.gateway.identifiers import SHORT, DigitKind, Numbers
from localmodel.gateway.patterns import BadPattern, compile_pattern
from localmodel.gateway.plain_characters import to_plain

_OWN = "Redacted"
_MARK = "\0"
_SEPARATOR = f"\n{_MARK}\n"
"""Between texts that are searched in one go: ASCII, so that ASCII stays it. No built-in pattern reaches over it."""
_SEES_ENDS = re.compile(r"\\[Az]|\(\?[a-zA-Z]*-[a-zA-Z]*m")
"""An own pattern in which this occurs may tell the end of a text from the end of a line: each text is searched by itself."""

Span = tuple[int, int, str]


class TooCostly(Exception):
    """The search took longer than it may: what was not searched must not be written."""


class Redactor:
    def __init__(
        self, kinds: Collection[RedactKind], patterns: Sequence[str] = (), seconds: float = 1.0, *, in_c: bool = True
    ) -> None:
        """`patterns`: RE2; `^` and `$` match at lines. `seconds`: most processor time of one call. `in_c`: where it can be, which
        shows in nothing but time. Raises BadPattern."""
        self._emails = Emails() if "Email" in kinds else None
        digits: list[DigitKind] = [kind for kind in kinds if kind != "Email"]
        self._numbers = Numbers(digits) if digits else None
        self._own = [_compile_own(pattern) for pattern in patterns]
        self._apart = any(_SEES_ENDS.search(pattern) for pattern in patterns)
        self._seconds = seconds
        usable = in_c and body_search.built() and not self._apart
        self._in_c = body_search.BodySearch(kinds) if usable else None

    def show(self, bodies: Sequence[bytes], ours: Sequence[bool]) -> Sequence[str | None]:
        """Whole bodies, redacted; None: what `bodies` must do. `ours`: an answer that the gateway composed. Raises TooCostly."""
        if self._in_c is None:
            return [None] * len(bodies)
        return self._in_c.show(bodies, ours, self._find_own if self._own else None)

    def _find_own(self, texts: bytes) -> Iterator[tuple[int, int]]:
        check = self._clock()
        return (span for pattern in self._own for span in _matches(pattern, texts, check))

    def redact(self, text: str) -> str:
        """Every finding becomes [Email], [Phone], [IDCard], [BankCard] or [Redacted]. Raises TooCostly."""
        return self._redact(text, self._clock())

    def redact_all(self, texts: Sequence[str]) -> Sequence[str]:
        """Each by itself, searched together where that gives the same. The same object if nothing is found."""
        check = self._clock()
        whole = _SEPARATOR.join(texts)
        if not self._apart and whole.count(_MARK) == len(texts) - 1:
            redacted = self._redact(whole, check)
            if redacted is whole:
                return texts
            parts = redacted.split(_SEPARATOR)
            if len(parts) == len(texts):
                return parts
        return [self._redact(text, check) for text in texts]

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
        spans: list[Span] = []
        seldom = check if len(text) > SHORT else _no_check
        if self._emails is not None:
            spans += [(start, end, "Email") for start, end in self._emails.find(plain, seldom)]
        if self._numbers is not None:
            spans += self._numbers.find(plain, seldom)
        for pattern in self._own:
            for searched in (text,) if plain is text else (text, plain):
                # bytes need no map from their places to those of characters
                found = _matches(pattern, searched.encode() if searched.isascii() else searched, check)
                spans += [(start, end, _OWN) for start, end in found]
        return _replace(text, _unite(spans)) if spans else text


def _no_check() -> None:
    """What is short is searched in less time than a clock can tell."""


def _compile_own(pattern: str) -> "re2._Regexp":
    if compile_pattern(pattern).search("") is not None:
        raise BadPattern(f"{pattern!r} matches the empty text; write one that matches what is to be taken out")
    return compile_pattern(f"(?m:{pattern})")


def _matches(pattern: "re2._Regexp", text: str | bytes, check: Callable[[], None]) -> Iterator[tuple[int, int]]:
    for match in pattern.finditer(text):
        check()
        start, end = match.span()
        if end > start:
            yield start, end


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

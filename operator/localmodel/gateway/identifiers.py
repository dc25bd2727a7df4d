"""Which digits name a person or an account: telephone numbers, Chinese ID cards, bank cards.

Pure. It judges one run of digits and separators at a time and reports every stretch that could be such a number, so that no
overlap hides one: too much is taken rather than too little. A number that other digits touch is another number.
"""

import re
from collections.abc import Callable, Collection, Iterator
from typing import Literal

from localmodel.gateway.patterns import compile_pattern

DigitKind = Literal["Phone", "IDCard", "BankCard"]

RUN = r"(?:\+ ?)?\(?[0-9](?:[ .()\-]{0,3}[0-9]){6,}[Xx]?"
"""RE2: at least seven digits with at most three separators between two of them."""

SHORT = 16 * 1024
"""Characters that Python's own expressions search: their time is linear, too, but no other thread runs meanwhile."""
_DIGITS = re.compile(r"[0-9](?:[ .()\-]{0,3}+[0-9]){6,}+[Xx]?+")
"""A run from its first digit."""
_NO_SEPARATORS = str.maketrans("", "", "+ .()-")
_GROUP = re.compile(r"[0-9]++[Xx]?")
_FEWEST, _FEWEST_AFTER_PLUS, _FEWEST_OF_CARDS, _MOST_DIGITS = 10, 7, 13, 19
"""Of a telephone number, in one run: without and with a plus; of any card."""
_MOBILE = re.compile(r"(?:00?86|86|0)?1[3-9][0-9]{9}")
_LANDLINE = re.compile(r"(?:0086|86)?0(?:10[0-9]{8}|2[0-9][0-9]{8}|[3-9][0-9]{9,10})")
_INTERNATIONAL = re.compile(r"[1-9][0-9]{6,14}")
_INTERNATIONAL_00 = re.compile(r"00[1-9][0-9]{7,13}")
_NORTH_AMERICAN = re.compile(r"1?[2-9][0-9]{2}[2-9][0-9]{6}")
_ID_CARD = re.compile(r"([0-9]{6})([0-9]{4})([0-9]{2})([0-9]{2})[0-9]{3}[0-9X]")
_OLD_ID_CARD = re.compile(r"([0-9]{6})[0-9]{2}([0-9]{2})([0-9]{2})[0-9]{3}")
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECK_DIGITS = "10X98765432"
_PROVINCES = frozenset(
    {
        "11", "12", "13", "14", "15", "21", "22", "23", "31", "32", "33", "34", "35", "36",
        "37", "41", "42", "43", "44", "45", "46", "50", "51", "52", "53", "54", "61", "62",
        "63", "64", "65", "71", "81", "82", "83", "91",
    }
)  # fmt: skip


class Numbers:
    def __init__(self, kinds: Collection[DigitKind]) -> None:
        self._kinds = frozenset(kinds)
        self._pattern = compile_pattern(RUN)

    def find(self, text: str, check: Callable[[], None]) -> list[tuple[int, int, DigitKind]]:
        """Start, end and kind of each stretch that is such a number; stretches may overlap, those inside of one may be left out.

        `check` is called once per run and group of digits and may raise, to end a search that takes too long."""
        found: list[tuple[int, int, DigitKind]] = []
        kinds = self._kinds
        for start, end in find_short_runs(text) if len(text) <= SHORT else self._find_long(text):
            check()
            run = text[start:end]
            whole = _classify_whole(run)
            if whole in kinds and whole is not None:
                found.append((start, end, whole))
            else:
                found += [(start + first, start + last, kind) for first, last, kind in _find_in(run, check) if kind in kinds]
        return found

    def _find_long(self, text: str) -> Iterator[tuple[int, int]]:
        for match in self._pattern.finditer(text):
            yield match.span()


def find_short_runs(text: str) -> list[tuple[int, int]]:
    """What RUN finds: the digits, and what may stand before them."""
    runs = []
    last = 0
    for match in _DIGITS.finditer(text):
        start, end = match.span()
        if start > last and text[start - 1] in "(+ ":
            if text[start - 1] == "(":
                start -= 1
            if start > last and text[start - 1] == "+":
                start -= 1
            elif start > last + 1 and text.startswith("+ ", start - 2):
                start -= 2
        runs.append((start, end))
        last = end
    return runs


def _classify_whole(run: str) -> DigitKind | None:
    digits = run.translate(_NO_SEPARATORS)
    if len(digits) < _FEWEST:
        if run[0] != "+":
            return None
    elif _MOBILE.fullmatch(digits):
        return "Phone"
    if len(digits) > _MOST_DIGITS:
        return None
    lengths = [len(group) for group in _GROUP.findall(run)]
    return _classify(digits.upper(), lengths, plus=run[0] == "+", fraction=False)


def _find_in(run: str, check: Callable[[], None]) -> Iterator[tuple[int, int, DigitKind]]:
    groups = [match.span() for match in _GROUP.finditer(run)]
    for first, (start, _) in enumerate(groups):
        check()
        plus = first == 0 and run[0] == "+"
        fewest = _FEWEST_AFTER_PLUS if plus else _FEWEST
        digits, lengths = "", []
        for begin, end in groups[first:]:
            digits += run[begin:end]
            lengths.append(end - begin)
            if len(digits) > _MOST_DIGITS:
                break
            if len(digits) < fewest:
                continue
            if kind := _classify(digits.upper(), lengths, plus=plus, fraction=run[start - 1 : start] == "."):
                yield (0 if first == 0 else start), end, kind


def _classify(digits: str, lengths: list[int], *, plus: bool, fraction: bool) -> DigitKind | None:
    if len(digits) >= _FEWEST_OF_CARDS and is_id_card(digits):
        return "IDCard"
    digits = digits.removesuffix("X")
    if is_phone(digits, lengths, plus=plus, fraction=fraction):
        return "Phone"
    return "BankCard" if is_bank_card(digits) else None


def is_phone(digits: str, lengths: list[int], *, plus: bool, fraction: bool) -> bool:
    """`lengths` of the groups of digits; `fraction`: the digits follow a point, where a leading 0 is no prefix."""
    if _MOBILE.fullmatch(digits) or (plus and _INTERNATIONAL.fullmatch(digits)):
        return True
    if not fraction and (_LANDLINE.fullmatch(digits) or _INTERNATIONAL_00.fullmatch(digits)):
        return True
    return lengths[-3:] == [3, 3, 4] and len(lengths) <= 4 and _NORTH_AMERICAN.fullmatch(digits) is not None


def is_id_card(text: str) -> bool:
    """18 characters with a date, and a province or the right check digit; or the 15 digits of before 1999."""
    if found := _ID_CARD.fullmatch(text):
        dated = found[2][:2] in ("18", "19", "20", "21") and _is_day(found[3], found[4])
        return dated and (found[1][:2] in _PROVINCES or text[17] == id_card_check_digit(text[:17]))
    old = _OLD_ID_CARD.fullmatch(text)
    return old is not None and old[1][:2] in _PROVINCES and _is_day(old[2], old[3])


def id_card_check_digit(digits: str) -> str:
    """The 18th character after 17 digits, by ISO 7064 MOD 11-2."""
    return _CHECK_DIGITS[sum(int(digit) * weight for digit, weight in zip(digits, _WEIGHTS, strict=True)) % 11]


def is_bank_card(digits: str) -> bool:
    """13 to 19 digits whose Luhn sum fits."""
    return 13 <= len(digits) <= _MOST_DIGITS and digits[0] != "0" and luhn_sum(digits) % 10 == 0


def luhn_sum(digits: str) -> int:
    odd, even = digits[-1::-2], digits[-2::-2]
    return sum(map(int, odd)) + sum(sum(divmod(2 * int(digit), 10)) for digit in even)


def _is_day(month: str, day: str) -> bool:
    return "01" <= month <= "12" and "01" <= day <= "31"

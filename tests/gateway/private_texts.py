"""Texts that hold what names a person, in every form that redaction knows, and what only looks like it."""

import json
import random
from datetime import date

from hypothesis import strategies as st

from localmodel.gateway.identifiers import id_card_check_digit, luhn_sum

mobiles = st.from_regex(r"1[3-9][0-9]{9}", fullmatch=True)
landlines = st.from_regex(r"(010|02[0-9])-?[1-9][0-9]{7}|0[3-9][1-9][0-9]-?[1-9][0-9]{6,7}", fullmatch=True)
international = st.from_regex(r"(\+|00)[1-9][0-9]{0,2}[ -]?[0-9]{4}[ -]?[0-9]{4}", fullmatch=True)
emails = st.from_regex(r"[a-z0-9][a-z0-9._%+\-]{0,10}@([a-z0-9]{1,8}\.){1,2}[a-z]{2,6}", fullmatch=True)
calm_text = st.text("日本 abc,。：；\n\t\"'{}[]\\中文!?é", max_size=30)


@st.composite
def id_cards(draw: st.DrawFn) -> str:
    day = draw(st.dates(min_value=date(1900, 1, 1), max_value=date(2030, 1, 1)))
    body = draw(st.sampled_from(["110105", "310101", "440305", "510104"])) + day.strftime("%Y%m%d") + draw(
        st.from_regex("[0-9]{3}", fullmatch=True))  # fmt: skip
    return body + draw(st.sampled_from([str.upper, str.lower]))(id_card_check_digit(body))


@st.composite
def bank_cards(draw: st.DrawFn) -> str:
    body = draw(st.from_regex("[2-6][0-9]{11,17}", fullmatch=True))
    return body + str(-luhn_sum(body + "0") % 10)


@st.composite
def numbers(draw: st.DrawFn) -> str:
    """Of any kind, possibly in groups and in other people's digits."""
    number = draw(mobiles | landlines | international | id_cards() | bank_cards())
    if draw(st.booleans()) and number.isdigit():
        cuts = sorted(draw(st.sets(st.integers(1, len(number) - 1), max_size=4)))
        separator = draw(st.sampled_from([" ", "-", " - ", "\u00a0", "\u2011", "\u3000"]))
        number = separator.join(number[a:b] for a, b in zip([0, *cuts], [*cuts, len(number)], strict=True))
    if draw(st.booleans()):
        number = number.translate({ord("0") + n: 0xFF10 + n for n in range(10)})
    return number


_PARTS = [*"00123456789++(()  .-xXabZ_'\n\t", "@", "%40", "%", "@b.de", ".de", "é", "中", "β"]
tricky = st.lists(st.sampled_from(_PARTS), max_size=60).map("".join)
tricky_ascii = st.lists(st.sampled_from([part for part in _PARTS if part.isascii() and part != "%40"]), max_size=60).map("".join)


def escaped(text: str, chance: random.Random) -> str:
    return "".join(f"\\u{ord(char):04x}" if chance.random() < 0.5 else json.dumps(char)[1:-1] for char in text)

"""JSON that two parsers could read differently, and JSON that is merely unusual."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodel.gateway import errors, strict_json

REFUSED = {
    "empty": b"",
    "blank": b"  \n",
    "list": b"[]",
    "text": b'"a"',
    "cut": b'{"a": 1',
    "trailing": b'{"a": 1} x',
    "comment": b'{"a": 1 /* b */}',
    "not utf-8": b'{"a": "\xff"}',
    "utf-16": '{"a": 1}'.encode("utf-16"),
    "bom": b'\xef\xbb\xbf{"a": 1}',
    "duplicate": b'{"a": 1, "a": 1}',
    "duplicate below": b'{"a": [{"b": 1, "b": 2}]}',
    "duplicate by escape": b'{"a": 1, "\\u0061": 2}',
    "nan": b'{"a": NaN}',
    "infinity": b'{"a": -Infinity}',
    "lone surrogate": b'{"a": "\\ud800"}',
    "lone surrogate below": b'{"a": [["\\uDFFF x"]]}',
    "lone surrogate key": b'{"\\ud800": 1}',
    "reversed pair": b'{"a": "\\udc00\\ud800"}',
    "5,000 digits": b'{"a": ' + b"9" * 5000 + b"}",
    "65 deep": b'{"a": ' + b"[" * 64 + b"]" * 64 + b"}",
    "100,000 deep": b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep and unclosed": b'{"a":' * 100_000,
    "too many values": b'{"a": [' + b"1," * strict_json.MAX_VALUES + b"1]}",
    "too many texts": b'{"a": [' + b'"",' * strict_json.MAX_VALUES * 4 + b"1]}",
    "too many lists": b'{"a": [' + b"[]," * strict_json.MAX_CONTAINERS + b"1]}",
    "too many, behind an escaped quote": b'{"a\\\\\\"": [' + b"{}," * strict_json.MAX_CONTAINERS + b"1]}",
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    with pytest.raises(errors.ApiError) as caught:
        strict_json.parse_object(REFUSED[name])
    assert (caught.value.status, caught.value.code, caught.value.outcome) == (400, "invalid_json", "rejected")


def test_a_byte_order_mark_is_named() -> None:
    with pytest.raises(errors.ApiError, match="byte order mark"):
        strict_json.parse_object(REFUSED["bom"])


ACCEPTED = {
    "pair": (b'{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
    "escaped backslash": (b'{"a": "\\\\ud800"}', {"a": "\\ud800"}),
    "same key on two levels": (b'{"a": {"a": 1}}', {"a": {"a": 1}}),
    "64 deep": (b'{"a": ' + b"[" * 63 + b"]" * 63 + b"}", None),
    "many signs inside a text": (b'{"a": "\\\\\\"' + b"{,[" * 300_000 + b'\\\\"}', {"a": '\\"' + "{,[" * 300_000 + "\\"}),
    "wide": (b'{"a": [' + b",".join([b"[]"] * 1000) + b"]}", {"a": [[]] * 1000}),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str) -> None:
    body, value = ACCEPTED[name]
    parsed = strict_json.parse_object(body)
    assert value is None or parsed == value


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(), below, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), _VALUES, max_size=5), st.booleans())
def test_whatever_python_writes_is_read_back(document: dict[str, object], ascii_only: bool) -> None:
    body = json.dumps(document, ensure_ascii=ascii_only).encode()
    assert strict_json.parse_object(body) == document


@given(st.binary(max_size=200))
def test_no_bytes_are_a_500(body: bytes) -> None:
    try:
        strict_json.parse(body)
    except errors.ApiError as error:
        assert error.status == 400

"""Durations, quantities and memory caps as numbers."""

from decimal import Decimal
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from localmodel.api.peers import Peer
from localmodel.api.rules import Rule
from localmodel.api.scheduling import Toleration
from localmodel.api.values import parse_bytes, parse_duration, parse_memory_cap, parse_quantity


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1m30s", 90), ("500ms", 0.5), ("24h", 86400), ("1h1m1s1ms", 3661.001), ("1ms1ms", 0.002), ("0s", 0)],
)
def test_parse_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "30", "s", "1d", "-5s", "1.5s", "1s ", "1s\n", "1S", "１s"])
def test_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match="write a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (2, "2"), ("2", "2"), ("500m", "0.5"), (0.5, "0.5"), ("1.5", "1.5"), ("8Gi", str(8 * 2**30)), ("1.5Ki", "1536"),
        ("1k", "1000"), ("2Ti", str(2 * 2**40)), ("1P", str(10**15)), ("0", "0"), ("0.1", "0.1"),
    ],
)  # fmt: skip
def test_parse_quantity(value: str | int | float, number: str) -> None:
    assert parse_quantity(value) == Decimal(number)


@pytest.mark.parametrize(
    "value", ["", "8GB", "8 Gi", "-1", "1e3", "Gi", "1.", ".5", "1.2.3", "8gi", float("nan"), float("inf"), -1, "٣"]
)
def test_not_a_quantity(value: str | int | float) -> None:
    with pytest.raises(ValueError, match="write a quantity"):
        parse_quantity(value)


@given(st.integers(0, 10**14), st.sampled_from(["Ki", "Mi", "Gi"]))
def test_binary_units_are_exact(number: int, unit: str) -> None:
    assert parse_quantity(f"{number}{unit}") == number * 2 ** {"Ki": 10, "Mi": 20, "Gi": 30}[unit]


def test_parse_memory_cap() -> None:
    assert parse_memory_cap("") is None
    assert parse_memory_cap("60%") == 0.6 and isinstance(parse_memory_cap("100%"), float)
    assert parse_memory_cap("60Gi") == 60 * 2**30 and isinstance(parse_memory_cap("0.5Gi"), int)


@pytest.mark.parametrize("text", ["0%", "101%", "60", "60 %", "60.5%", "%", "60GB", "-1Gi"])
def test_not_a_memory_cap(text: str) -> None:
    with pytest.raises(ValueError, match="write a share of each card"):
        parse_memory_cap(text)


def test_a_rule_is_in_the_schema_and_in_the_parser() -> None:
    adapter = TypeAdapter(Annotated[str, Rule("a", "one", lambda v: v != "x"), Rule("b", "two", lambda v: v != "y", ".p")])
    rules = adapter.json_schema()["x-kubernetes-validations"]
    assert rules == [{"rule": "a", "message": "one"}, {"rule": "b", "message": "two", "fieldPath": ".p"}]
    assert adapter.validate_python("z") == "z"
    for value, message in (("x", "one"), ("y", "two")):
        with pytest.raises(ValidationError, match=message):
            adapter.validate_python(value)


@pytest.mark.parametrize(("value", "number"), [(1024, 1024), ("8Gi", 8 * 2**30), ("1.5Ki", 1536), ("500M", 500_000_000)])
def test_parse_bytes(value: str | int, number: int) -> None:
    assert parse_bytes(value) == number


@pytest.mark.parametrize("value", ["500m", "0.5", "8GB", "", "-1"])
def test_not_bytes(value: str) -> None:
    with pytest.raises(ValueError, match="m would be thousandths of a byte"):
        parse_bytes(value)


@pytest.mark.parametrize(
    "peer",
    [
        {"namespaceSelector": {}},
        {
            "podSelector": {"matchLabels": {"app": "a"}},
            "namespaceSelector": {"matchExpressions": [{"key": "k", "operator": "Exists"}]},
        },
        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
    ],
)
def test_a_peer_is_dumped_as_it_was_written(peer: dict[str, object]) -> None:
    """The NetworkPolicy gets what the user wrote: `{}` selects everything and must not get members or vanish."""
    assert Peer.model_validate(peer).model_dump(mode="json", by_alias=True, exclude_none=True) == peer


def test_a_toleration_is_dumped_as_it_was_written() -> None:
    written = {"key": "gpu", "operator": "Exists", "tolerationSeconds": 60, "effect": "NoExecute"}
    assert Toleration.model_validate(written).model_dump(by_alias=True, exclude_none=True) == written

"""Amounts are written as the API server gives them back: any other spelling looks like somebody's change, for ever."""

from decimal import Decimal

import pytest

from localmodel.core.quantities import format_cpu, format_memory


@pytest.mark.parametrize(
    ("cores", "text"),
    [("2", "2"), ("1.5", "1500m"), ("0.0001", "1m"), ("999", "999"), ("1000", "1k"), ("1500", "1500"), ("2000000", "2M")],
)
def test_cores(cores: str, text: str) -> None:
    assert format_cpu(Decimal(cores)) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (1, "1Mi"), (2**20 + 1, "2Mi"), (1536 * 2**20, "1536Mi"), (2**30, "1Gi"), (2**40, "1Ti"), (1025 * 2**40, "1025Ti"),
        (2**50, "1Pi"), (2**60, "1Ei"),
    ],
)  # fmt: skip
def test_memory(amount: int, text: str) -> None:
    assert format_memory(amount) == text

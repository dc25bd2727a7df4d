"""The value types of the spec: durations, quantities, memory caps, and how a CEL rule is attached to a field.

Types and parsers only; nothing here knows which field uses them.
"""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field

_DURATION = r"^([0-9]+(ms|s|m|h))+$"
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$"
_QUANTITY_UNITS = {
    "": Decimal(1), "m": Decimal("0.001"), "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9),
    "T": Decimal(10**12), "P": Decimal(10**15), "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30),
    "Ti": Decimal(2**40), "Pi": Decimal(2**50),
}  # fmt: skip
_MEMORY_CAP = r"^$|^([1-9][0-9]?|100)%$|^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)$"


def cel(rule: str, message: str) -> dict[str, Any]:
    """`json_schema_extra` that attaches one CEL rule; the message says what to write instead."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message}]}


Duration = Annotated[
    str,
    Field(
        pattern=_DURATION,
        max_length=32,
        json_schema_extra=cel(
            f"!self.matches('{_DURATION}') || (duration(self) > duration('0s') && duration(self) <= duration('24h'))",
            "write a duration of more than zero and at most 24h, such as 30s or 1m30s",
        ),
    ),
]
Quantity = Annotated[str | int | float, Field(json_schema_extra={"x-localmodel-type": "quantity"})]
MemoryCap = Annotated[str, Field(pattern=_MEMORY_CAP, max_length=32)]


def parse_duration(text: str) -> float:
    """Seconds of `1m30s`. Raises ValueError on anything that is not a duration of the API."""
    if not re.fullmatch(_DURATION, text):
        raise ValueError(f"{text!r} is not a duration such as 30s or 1m30s")
    return sum(int(n) * _DURATION_UNITS[unit] for n, unit in re.findall(r"([0-9]+)(ms|s|m|h)", text))


def parse_quantity(value: str | int | float) -> Decimal:
    """The number behind a Kubernetes quantity (`500m` is 0.5, `8Gi` is 8589934592). Raises ValueError."""
    text = str(value)
    if not re.fullmatch(_QUANTITY, text):
        raise ValueError(f"{text!r} is not a quantity such as 500m, 2 or 8Gi")
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", text).groups()  # type: ignore[union-attr]
    return Decimal(number) * _QUANTITY_UNITS[unit]

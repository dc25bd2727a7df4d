"""The value types of the spec: durations, quantities, memory caps, labels.

Types and parsers only; nothing here knows which field uses them.
"""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from localmodel.api.rules import Rule, matches, parses

_DURATION = r"([0-9]{1,8}ms|[0-9]{1,5}[smh])+"
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST_DURATION_SECONDS = 24 * 3600
_DURATION_HELP = "write a duration of more than zero and at most 24h, such as 30s, 1m30s or 500ms"
_QUANTITY = r"[0-9]{1,16}(\.[0-9]{1,9})?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?"
_QUANTITY_UNITS = {
    "": Decimal(1), "m": Decimal("0.001"), "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9),
    "T": Decimal(10**12), "P": Decimal(10**15), "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30),
    "Ti": Decimal(2**40), "Pi": Decimal(2**50),
}  # fmt: skip
_QUANTITY_HELP = "write a quantity of more than zero, such as 2, 500m or 8Gi"
BYTES_PATTERN = r"[0-9]{1,16}|[0-9]{1,16}(\.[0-9]{1,9})?(k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)"
_BYTES_HELP = "write an amount of more than zero bytes and at most 1Pi, such as 8Gi or 500M (m would be thousandths of a byte)"
_MOST_BYTES = "1Pi"
_CORES_HELP = "write a quantity of more than zero and at most 1M, such as 2 or 500m"
_MOST_CORES = "1M"
_SHARE = r"([1-9][0-9]?|100)%"
_CAP_QUANTITY = r"[0-9]{1,15}(\.[0-9]{1,9})?(Ki|Mi|Gi|Ti|k|M|G|T)"
_CAP_HELP = "write a share of each card from 1% to 100%, such as 60%, or a quantity with a unit, such as 60Gi"
_OBJECT_NAME = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
_OBJECT_NAME_HELP = "write the name of a Kubernetes object: lower-case letters, digits, '-' and '.', such as models-1"
_LABEL_NAME = r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)"
_LABEL_KEY_HELP = "write the key of a label, such as disktype or example.com/zone"
_LABEL_VALUE_HELP = "write a label's value: at most 63 letters, digits, '-', '_' and '.', not beginning or ending with a sign"
_LABEL_KEY = rf"([a-z0-9]([a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_LABEL_NAME}"


class SpecModel(BaseModel):
    """Base of everything in the spec: camelCase on the wire, unknown keys ignored (the API server drops or refuses them)."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


def parse_duration(text: str) -> float:
    """Seconds of `1m30s`. Raises ValueError on anything that is not written like a duration of the API."""
    if not re.fullmatch(_DURATION, text):
        raise ValueError(_DURATION_HELP)
    return sum(int(n) * _DURATION_UNITS[unit] for n, unit in re.findall(r"([0-9]+)(ms|s|m|h)", text))


def parse_quantity(value: str | int | float) -> Decimal:
    """The number behind a Kubernetes quantity (`500m` is 0.5, `8Gi` is 8589934592). Raises ValueError."""
    parts = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(value))
    if not parts or not re.fullmatch(_QUANTITY, str(value)):
        raise ValueError(_QUANTITY_HELP)
    return Decimal(parts[1]) * _QUANTITY_UNITS[parts[2]]


def parse_memory_cap(text: str) -> float | int | None:
    """`60%` is the share 0.6 (a float), `60Gi` are bytes (an int), an empty text is None: no cap was written."""
    if text == "":
        return None
    if re.fullmatch(_SHARE, text):
        return int(text[:-1]) / 100
    if not re.fullmatch(_CAP_QUANTITY, text):
        raise ValueError(_CAP_HELP)
    return int(parse_quantity(text))


def parse_bytes(value: str | int) -> int:
    """Bytes of an amount of memory or disk, rounded down. Raises ValueError."""
    if not re.fullmatch(BYTES_PATTERN, str(value)):
        raise ValueError(_BYTES_HELP)
    return int(parse_quantity(value))


def _is_duration(text: str) -> bool:
    return parses(parse_duration)(text) and parse_duration(text) <= _LONGEST_DURATION_SECONDS


def _checked_keys(labels: dict[str, str]) -> dict[str, str]:
    """Keys have no length limit in a schema, so a rule on them would exceed CEL's budget: they are checked here only."""
    for key in labels:
        if not re.fullmatch(_LABEL_KEY, key):
            raise ValueError(f"{key[:320]!r} is not the key of a label; {_LABEL_KEY_HELP}")
    return labels


def _quantity_rule(pattern: str, parse: Callable[[Any], Decimal | int], most: str, message: str) -> Rule:
    """More would not fit into the numbers of the API server, and no status could be written."""
    limit = parse_quantity(most)
    return Rule(
        f"type(self) == int ? self > 0 && self <= {limit} : (self.matches(r'^({pattern})$')"
        f" && quantity(self).isGreaterThan(quantity('0')) && quantity(self).compareTo(quantity('{most}')) <= 0)",
        message,
        lambda value: 0 < parse(value) <= limit,
    )


INT_OR_STRING = WithJsonSchema({"x-kubernetes-int-or-string": True, "maxLength": 32})
"""Kubernetes' own form of a value that may be written as a number or as a text."""

Duration = Annotated[
    str,
    Field(max_length=32),
    Rule(
        f"self.matches(r'^{_DURATION}$') && duration(self) > duration('0s') && duration(self) <= duration('24h')",
        _DURATION_HELP,
        _is_duration,
    ),
]
Quantity = Annotated[str | int | float, INT_OR_STRING, _quantity_rule(_QUANTITY, parse_quantity, _MOST_CORES, _CORES_HELP)]
Bytes = Annotated[str | int, INT_OR_STRING, _quantity_rule(BYTES_PATTERN, parse_bytes, _MOST_BYTES, _BYTES_HELP)]
MemoryCap = Annotated[
    str,
    Field(max_length=32),
    Rule(
        f"self == '' || self.matches(r'^{_SHARE}$')"
        f" || (self.matches(r'^{_CAP_QUANTITY}$') && quantity(self).isGreaterThan(quantity('0')))",
        _CAP_HELP,
        parses(parse_memory_cap),
    ),
]
ObjectName = Annotated[str, Field(max_length=253), matches(_OBJECT_NAME, _OBJECT_NAME_HELP)]
OptionalObjectName = Annotated[str, Field(max_length=253), matches(f"({_OBJECT_NAME})?", _OBJECT_NAME_HELP)]
LabelKey = Annotated[str, Field(max_length=317), matches(_LABEL_KEY, _LABEL_KEY_HELP)]
LabelValue = Annotated[str, Field(max_length=63), matches(f"{_LABEL_NAME}?", _LABEL_VALUE_HELP)]
Labels = Annotated[dict[str, LabelValue], Field(max_length=16), AfterValidator(_checked_keys)]

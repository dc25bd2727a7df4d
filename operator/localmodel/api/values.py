"""The value types of the spec: durations, quantities, memory caps, labels, and how a CEL rule is attached to a field.

Types and parsers only; nothing here knows which field uses them. Each type says its rule twice, from one pattern: in CEL for
the API server, which answers the user at once, and in Python, so that core never meets a value it can't read.
"""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

_DURATION = r"^([0-9]{1,8}ms|[0-9]{1,5}[smh])+$"
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST_DURATION_SECONDS = 24 * 3600
_DURATION_HELP = "write a duration of more than zero and at most 24h, such as 30s, 1m30s or 500ms"
_QUANTITY = r"^[0-9]{1,15}(\.[0-9]{1,9})?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$"
_QUANTITY_UNITS = {
    "": Decimal(1), "m": Decimal("0.001"), "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9),
    "T": Decimal(10**12), "P": Decimal(10**15), "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30),
    "Ti": Decimal(2**40), "Pi": Decimal(2**50),
}  # fmt: skip
_QUANTITY_HELP = "write a quantity of more than zero, such as 2, 500m or 8Gi"
_BYTES = r"^[0-9]{1,15}$|^[0-9]{1,15}(\.[0-9]{1,9})?(k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)$"
_BYTES_HELP = "write an amount of more than zero bytes, such as 8Gi or 500M (m would be thousandths of a byte)"
_SHARE = r"^([1-9][0-9]?|100)%$"
_CAP_QUANTITY = r"^[0-9]{1,15}(\.[0-9]{1,9})?(Ki|Mi|Gi|Ti|k|M|G|T)$"
_CAP_HELP = "write a share of each card from 1% to 100%, such as 60%, or a quantity with a unit, such as 60Gi"
_LABEL_NAME = r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)"
_LABEL_VALUE_HELP = "write a label's value: at most 63 letters, digits, '-', '_' and '.', not beginning or ending with a sign"
_LABEL_KEY = rf"([a-z0-9]([a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_LABEL_NAME}"


class SpecModel(BaseModel):
    """Base of everything in the spec: camelCase on the wire, unknown keys ignored (the API server drops or refuses them)."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


def cel(rule: str, message: str, field_path: str = "") -> dict[str, Any]:
    """`json_schema_extra` that attaches one CEL rule; the message says what to write instead.

    A field with a rule needs no `pattern` in the CRD: the API server's own words for one are a regular expression.
    """
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} | ({"fieldPath": field_path} if field_path else {})]}


def all_of(*rules: dict[str, Any]) -> dict[str, Any]:
    """Several rules of one field as one `json_schema_extra`."""
    return {"x-kubernetes-validations": [each for rule in rules for each in rule["x-kubernetes-validations"]]}


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


def _checked_duration(text: str) -> str:
    if not 0 < parse_duration(text) <= _LONGEST_DURATION_SECONDS:
        raise ValueError(_DURATION_HELP)
    return text


def _checked_quantity(value: str | int | float) -> str | int | float:
    if parse_quantity(value) <= 0:
        raise ValueError(_QUANTITY_HELP)
    return value


def _checked_bytes(value: str | int) -> str | int:
    if not re.fullmatch(_BYTES, str(value)) or parse_quantity(value) <= 0:
        raise ValueError(_BYTES_HELP)
    return value


def _checked_memory_cap(text: str) -> str:
    if parse_memory_cap(text) == 0:
        raise ValueError(_CAP_HELP)
    return text


def _checked_labels(labels: dict[str, str]) -> dict[str, str]:
    """Keys have no length limit in a schema, so a rule on them would exceed CEL's budget: they are checked here."""
    for key in labels:
        if not re.fullmatch(_LABEL_KEY, key):
            raise ValueError(f"{key[:320]!r} is not the key of a label; write one such as disktype or example.com/zone")
    return labels


def _quantity_schema(pattern: str, message: str) -> WithJsonSchema:
    """Kubernetes' own form of a value that may be written as a number or as a text."""
    rule = f"type(self) == int ? self > 0 : (self.matches(r'{pattern}') && quantity(self).isGreaterThan(quantity('0')))"
    return WithJsonSchema({"x-kubernetes-int-or-string": True, "maxLength": 32} | cel(rule, message))


Duration = Annotated[
    str,
    AfterValidator(_checked_duration),
    Field(
        max_length=32,
        json_schema_extra=cel(
            f"self.matches(r'{_DURATION}') && duration(self) > duration('0s') && duration(self) <= duration('24h')",
            _DURATION_HELP,
        ),
    ),
]
Quantity = Annotated[str | int | float, AfterValidator(_checked_quantity), _quantity_schema(_QUANTITY, _QUANTITY_HELP)]
Bytes = Annotated[str | int, AfterValidator(_checked_bytes), _quantity_schema(_BYTES, _BYTES_HELP)]
MemoryCap = Annotated[
    str,
    AfterValidator(_checked_memory_cap),
    Field(
        max_length=32,
        json_schema_extra=cel(
            f"self == '' || self.matches(r'{_SHARE}')"
            f" || (self.matches(r'{_CAP_QUANTITY}') && quantity(self).isGreaterThan(quantity('0')))",
            _CAP_HELP,
        ),
    ),
]
LabelKey = Annotated[
    str,
    Field(
        min_length=1,
        max_length=317,
        json_schema_extra=cel(
            f"self.matches(r'^{_LABEL_KEY}$')", "write the key of a label, such as disktype or example.com/zone"
        ),
    ),
]
LabelValue = Annotated[str, Field(max_length=63, json_schema_extra=cel(f"self.matches(r'^{_LABEL_NAME}?$')", _LABEL_VALUE_HELP))]
Labels = Annotated[dict[str, LabelValue], Field(max_length=16), AfterValidator(_checked_labels)]

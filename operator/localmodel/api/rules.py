"""Rules on values: each is said twice, in CEL for the API server, which answers the user at once, and in Python, for whoever
reads a LocalModel without one (`localmodel run`) and so that core never meets what it can't read.

Only how a rule is attached to a type; the rules themselves stand beside their fields.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

KEYWORD = "x-kubernetes-validations"


@dataclass(frozen=True)
class Rule:
    """A member of `Annotated`. The message says what to write instead; CEL and `holds` must refuse the same values."""

    cel: str
    message: str
    holds: Callable[[Any], bool] | None = None
    """None: only the API server can judge it (it compares with the old object), or `localmodel run` has words of its own."""
    field_path: str = ""
    """Which member of an object the error is shown at."""

    def to_schema(self) -> dict[str, str]:
        return {"rule": self.cel, "message": self.message} | ({"fieldPath": self.field_path} if self.field_path else {})

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        document = dict(handler(schema))
        document[KEYWORD] = [*document.get(KEYWORD, []), self.to_schema()]
        return document

    def _check(self, value: Any) -> Any:
        if self.holds and not self._judge(value):
            raise ValueError(self.message)
        return value

    def _judge(self, value: Any) -> bool:
        """A value that `holds` can't read does not hold."""
        try:
            return self.holds is not None and self.holds(value)
        except ValueError:
            return False


def matches(pattern: str, message: str) -> Rule:
    """A text of this form. Instead of the schema's `pattern`, whose error shows the user a regular expression.

    The pattern must mean the same to RE2 and to Python: ASCII classes only.
    """
    return Rule(f"self.matches(r'^({pattern})$')", message, lambda text: re.fullmatch(pattern, text) is not None)


def parses(parse: Callable[[Any], Any]) -> Callable[[Any], bool]:
    """Whether `parse` gives something of more than nothing and raises no ValueError."""

    def holds(value: Any) -> bool:
        try:
            return parse(value) is None or parse(value) > 0
        except ValueError:
            return False

    return holds

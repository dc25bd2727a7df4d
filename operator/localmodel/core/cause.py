"""A cause: what is wrong, which condition carries it, and what to do. Found by placement and failures, told by conditions.

It decides nothing, so that those who look for causes need not import each other.
"""

from dataclasses import dataclass

from localmodel.api.status import ConditionType
from localmodel.core.hints import hint


@dataclass(frozen=True)
class Cause:
    stage: ConditionType
    """The condition that carries it."""
    reason: str
    message: str
    said: str = ""
    """Word for word what the failing part said, if `message` is only a part of it."""


def explain(cause: Cause) -> str:
    """What was said and what to do."""
    return f"{cause.message}\n{hint(cause.reason)}".strip()

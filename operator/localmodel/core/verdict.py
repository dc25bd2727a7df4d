"""What is said of one condition now, and how it replaces what was said before."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from localmodel.api.status import Condition, ConditionType

LONGEST_MESSAGE = 2048


class Verdict(NamedTuple):
    type: ConditionType
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""


def merge_conditions(
    previous: Iterable[Condition], verdicts: Iterable[Verdict], generation: int, now: str
) -> tuple[Condition, ...]:
    """lastTransitionTime moves only when `status` does."""
    before = {condition.type: condition for condition in previous}
    merged = []
    for verdict in verdicts:
        old = before.get(verdict.type)
        since = old.last_transition_time if old and old.status == verdict.status else now
        merged.append(
            Condition(
                type=verdict.type,
                status=verdict.status,
                reason=verdict.reason,
                message=verdict.message[:LONGEST_MESSAGE],
                observed_generation=generation,
                last_transition_time=since,
            )
        )
    return tuple(merged)

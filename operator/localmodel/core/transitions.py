"""Which Events a new status deserves: one for each condition whose status or reason changed, never two of one reason."""

from dataclasses import dataclass
from typing import Literal

from localmodel.api.status import Condition, ConditionType, LocalModelStatus
from localmodel.core.reasons import Reason

_TOLD = (
    ConditionType.ACCEPTED,
    ConditionType.SCHEDULED,
    ConditionType.MODEL_LOADED,
    ConditionType.GATEWAY_READY,
    ConditionType.READY,
    ConditionType.PROGRESSING,
    ConditionType.PAUSED,
)
_SILENT = {
    Reason.ACCEPTED, Reason.NOT_PAUSED, Reason.PENDING, Reason.STARTING, Reason.POD_NOT_READY, Reason.BLOCKED,
}  # fmt: skip
_NORMAL_WHEN_FALSE = {
    Reason.STOPPED, Reason.COMPLETE, Reason.LOADING, Reason.PAUSED, Reason.UPGRADE_PENDING,
    "BackendStarting", "Draining", "NoEvidence",
}  # fmt: skip


@dataclass(frozen=True)
class EventNote:
    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def derive_events(previous: LocalModelStatus, status: LocalModelStatus) -> tuple[EventNote, ...]:
    before = {c.type: (c.status, c.reason) for c in previous.conditions}
    after = {c.type: c for c in status.conditions}
    notes: dict[str, EventNote] = {}
    for type_ in _TOLD:
        condition = after.get(type_)
        if condition and before.get(type_) != (condition.status, condition.reason) and condition.reason not in _SILENT:
            notes.setdefault(condition.reason, EventNote(_type_of(condition), condition.reason, condition.message))
    return tuple(notes.values())


def _type_of(condition: Condition) -> Literal["Normal", "Warning"]:
    good = condition.status == "True" or condition.reason in _NORMAL_WHEN_FALSE
    return "Normal" if good else "Warning"

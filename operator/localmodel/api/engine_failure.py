"""Why the engine ended while it served: the sentence that it ends its sequences with begins with `[code] `.

It stands in the last events of the sequences and in the last batch of the event stream. After that the process ends and the
model is loaded anew.
"""

import re
from enum import StrEnum
from typing import NamedTuple


class EngineFailureCode(StrEnum):
    OUT_OF_MEMORY = "OutOfMemory"
    """A step asked for more memory than there was."""
    DEVICE_FAILED = "DeviceFailed"
    """The card, its driver or its link reported an error; nothing computed on it since can be trusted."""
    STEP_HUNG = "StepHung"
    """A step did not end."""
    ENGINE_FAILED = "EngineFailed"
    """A fault of the engine's own."""


class EngineFailure(NamedTuple):
    code: EngineFailureCode
    message: str
    """For a person: what happened and what to do."""

    def __str__(self) -> str:
        return f"[{self.code}] {self.message}"


_FAILURE = re.compile(rf"\[({'|'.join(EngineFailureCode)})\] (.+)", re.DOTALL)


def parse_engine_failure(text: str) -> EngineFailure | None:
    """None if `text` says no such thing, as with a sequence that failed alone."""
    found = _FAILURE.fullmatch(text)
    return EngineFailure(EngineFailureCode(found[1]), found[2]) if found else None

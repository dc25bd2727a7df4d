"""What the first rank and the others say while they load. After that, only plans go one way and a failure the other.

Why it exists: both ends must agree on it, and neither needs the other's code.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from localmodel.api.engine import EngineConfig

LOADED = b"loaded"
"""Of a rank: its weights are there."""
MEET = b"meet"
"""To a rank: all weights are there."""
READY = b"ready"
"""Of a rank: it waits for steps."""
FAILED = b"failed "
"""Of a rank, before a sentence: it ends now."""


class Hello(BaseModel):
    """The first message to a rank."""

    model_config = ConfigDict(frozen=True)

    config: EngineConfig
    rank: int
    meeting_file: Path

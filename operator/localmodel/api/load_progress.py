"""How far the engine is with reading the weights: a small file beside the channel's token, from engine to gateway.

Why a file: while Triton loads a model no request reaches its process. The engine writes it while it loads and takes it away
at the end; nobody depends on it.
"""

from pathlib import PurePosixPath

from pydantic import BaseModel, ConfigDict, Field

_NAME = "load-progress.json"


class LoadProgress(BaseModel):
    model_config = ConfigDict(frozen=True)

    read_bytes: int = Field(ge=0)
    """Of the weights, as they lie in the files."""
    total_bytes: int = Field(ge=0)
    """Of all files of weights."""
    seconds: float = Field(ge=0)
    """Since the load began."""

    @property
    def percent(self) -> int:
        return min(100, 100 * self.read_bytes // max(1, self.total_bytes))


def progress_path(channel_token_file: str) -> str:
    return str(PurePosixPath(channel_token_file).with_name(_NAME))

"""EngineConfig: the file `1/model.json` that the operator (or `localmodel run`) writes and the engine reads.

It carries settings, never secrets and never anything that differs between two pods of one revision.
"""

import re
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from localmodel.api.predict import Format, PredictConfig, Task

Compile = Literal["None", "Auto", "Max"]


class EngineConfig(BaseModel):
    """What the engine is told. Unknown keys are refused: a typo must not become a default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_path: str
    """Directory with config.json, *.safetensors, tokenizer.json, or with model.pt or model.pt2; read-only."""
    model_version: str = ""
    """Free text from `spec.model.version`; reported back, never interpreted."""
    task: Task = "TextGeneration"
    format: Format | None = None
    """Of a Predict model; of others it goes without saying."""
    tensors: PredictConfig | None = None
    """Of a Predict model: what the user wrote about its tensors."""
    context_window: int = Field(4096, ge=1, le=1_048_576)
    """Tokens of one sequence, prompt and answer together."""
    max_batch_size: int = Field(16, ge=1, le=1024)
    """Sequences decoded together."""
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 on a GPU; on a CPU whichever the engine measured as faster for it."""
    quantization: Literal["None", "INT8", "INT4"] = "None"
    """Weights are rounded while they are loaded: INT8 per output, INT4 per group of inputs. On a CPU they stay dense."""
    compile: Compile = "Auto"
    """CUDA graphs of steps: none, each when its size is first met, or all before the model is ready. On a CPU, where every step
    is computed as it comes, all three are the same."""
    gpu_count: int = Field(0, ge=0, le=16)
    """Cards that share a network that generates text, one process each."""
    cpu_ranks: int | None = Field(None, ge=1, le=16)
    """The same with processes on a CPU, where it makes nothing faster: what cards do can be tried without one. Absent means 1."""
    gpu_memory_share: float | None = Field(None, gt=0, le=1)
    """Share of each card that the engine may use; exclusive with gpu_memory_bytes. Absent means 0.8."""
    gpu_memory_bytes: int | None = Field(None, gt=0)
    host_memory_bytes: int | None = Field(None, gt=0)
    """The container's memory limit: on a CPU, weights and KV cache must fit into it."""
    cpu_threads: int | None = Field(None, ge=1)
    """Threads for torch on the CPU, from the container's CPU limit; absent means torch's own choice."""
    channel_token_file: str
    """File with the random token that the gateway and the engine share. Whichever starts first creates it, atomically."""
    reconnect_grace_seconds: float = Field(2.0, ge=0)
    """How long sequences outlive the event stream that owned them."""

    @property
    def ranks(self) -> int:
        """Processes that share the network."""
        return max(1, self.gpu_count) if self.device == "cuda" else self.cpu_ranks or 1


class LoadErrorCode(StrEnum):
    """Why a model did not load. The engine begins its message with `[code] `; the operator turns it into a status reason."""

    INVALID_ENGINE_CONFIG = "InvalidEngineConfig"
    """model.json is absent or not an EngineConfig: a fault of whoever rendered it, not of the user."""
    MODEL_FILES_MISSING = "ModelFilesMissing"
    """The path is no model directory, or a file or tensor that belongs to the model is not there."""
    MODEL_FILES_CORRUPT = "ModelFilesCorrupt"
    """A file is there but truncated, unreadable or of other shapes than config.json says."""
    UNSUPPORTED_ARCHITECTURE = "UnsupportedArchitecture"
    CONTEXT_WINDOW_TOO_LARGE = "ContextWindowTooLarge"
    OUT_OF_MEMORY = "OutOfMemory"
    """Weights and the smallest useful KV cache are predicted not to fit; predicted and allowed bytes are in the message."""
    DEVICE_UNAVAILABLE = "DeviceUnavailable"
    GPU_COUNT_UNSUITABLE = "GpuCountUnsuitable"
    """The network has no equal shares for so many cards; the message names the counts that work."""
    SIGNATURE_MISSING = "SignatureMissing"
    """The file does not tell its tensors, and neither does `spec.model.config`."""
    SIGNATURE_MISMATCH = "SignatureMismatch"
    """The network's tensors are not those that `spec.model.config` or the file names."""
    UNSAFE_MODEL_FILE = "UnsafeModelFile"
    """Reading the file would run Python code or native code that it carries."""


class LoadFailure(BaseModel):
    model_config = ConfigDict(frozen=True)

    code: LoadErrorCode
    message: str
    """For a person: what was wrong and what to do."""


_LOAD_FAILURE = re.compile(rf"\[({'|'.join(LoadErrorCode)})\] (.*?)(?=\n\nAt:|\Z)", re.DOTALL)


def parse_load_failure(text: str) -> LoadFailure | None:
    """Finds the engine's own message inside Triton's load error; None if the failure was not one of the engine's."""
    found = _LOAD_FAILURE.search(text)
    return LoadFailure(code=LoadErrorCode(found[1]), message=found[2].strip()) if found else None

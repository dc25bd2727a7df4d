"""How the process that computes a Predict model and the one that talks to the gateway know of each other.

Why it exists: Triton runs each model of its Python backend in a process of its own. `predict` has the network; `llm` has the
channel, whose heartbeats must tell of the network's process and not only of its own. The worker holds a lock as long as it
lives and rewrites one small file; the other side reads. Standard library and pydantic only.
"""

import fcntl
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

BEAT_SECONDS = 0.1
_STATE, _LOCK = "predict-state.json", "predict-lock"


class WorkerState(BaseModel):
    model_config = ConfigDict(frozen=True)

    at: float = 0.0
    """When this was written: seconds of the machine's monotonic clock, the same for all processes."""
    step_began: float | None = None
    failure: str = ""
    """Why the worker is about to end itself."""
    ended: bool = False
    """The worker is being unloaded, and has not died."""
    example: tuple[tuple[int, ...], ...] = ()
    dtype: str = ""
    device: str = ""
    parameters: int = 0
    weights_bytes: int = 0
    memory_bytes: int = 0
    load_seconds: float = 0.0
    steps_total: int = 0
    rows_total: int = 0


class Beacon:
    """The worker's side."""

    def __init__(self, directory: Path, state: Callable[[], WorkerState]) -> None:
        """Takes the lock, which the kernel gives back when the process ends. `state` is called on a thread of this."""
        directory.mkdir(parents=True, exist_ok=True)
        self._file = directory / _STATE
        self._state = state
        self._lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="beacon", daemon=True)

    def start(self) -> None:
        self._write(self._state())
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._write(self._state().model_copy(update={"ended": True}))
        os.close(self._lock)

    def _run(self) -> None:
        while not self._stopping.wait(BEAT_SECONDS):
            self._write(self._state())

    def _write(self, state: WorkerState) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(state.model_copy(update={"at": time.monotonic()}).model_dump_json())
        fresh.replace(self._file)


class Watch:
    """The side that talks to the gateway. A file that an earlier worker left counts for nothing."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._since = time.monotonic()

    def read(self) -> WorkerState | None:
        """What the worker last said; None if none has spoken since this was made."""
        try:
            state = WorkerState.model_validate_json((self._directory / _STATE).read_bytes())
        except (OSError, ValidationError):
            return None
        return state if state.at >= self._since else None

    def lives(self) -> bool:
        """Whether a worker holds the lock."""
        try:
            lock = os.open(self._directory / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

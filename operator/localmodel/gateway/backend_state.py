"""What is known about Triton and the engine, and what follows from it for the probes.

Pure: facts and times in, answers out. It must not guess from a TCP port: an engine lives while its events arrive and its
steps end.
"""

from dataclasses import dataclass, field
from typing import Any

from localmodel.api.engine_status import EngineStatus
from localmodel.api.gateway import BackendStatus
from localmodel.api.load_progress import LoadProgress

SILENCE_SECONDS = 0.3
"""Three heartbeats missed: ask."""
HUNG_FOR_GOOD_SECONDS = 2.0
"""A shorter hang may be a busy machine; a drain outlasts it."""
DEAD_SECONDS = 5.0
"""Silence after which the container should be restarted, and running requests are given up."""
LIVE_PROBE_SECONDS = 3.0
"""How old Triton's last 'live' may be while the model is not served yet."""


@dataclass
class BackendState:
    state: str = "Starting"
    message: str = ""
    since: float = 0.0
    live_at: float = float("-inf")
    """When Triton last answered that it is live."""
    load_seconds: float | None = None
    progress: LoadProgress | None = None
    """While the model loads."""
    last_failure: str = ""
    """Why the engine's process last ended; stays when it is back."""
    engine: EngineStatus | None = None
    evidence: bool = False
    """The last request or canary got a token."""
    evidence_at: float = field(default=float("-inf"))

    def enter(self, state: str, now: float, message: str = "") -> bool:
        """True if that is a change."""
        changed = state != self.state
        if changed:
            self.since = now
        self.state = state
        self.message = message
        return changed

    def witness(self, answered: bool, now: float) -> None:
        self.evidence = answered
        self.evidence_at = now

    @property
    def served(self) -> EngineStatus | None:
        """What the engine last said, while it can answer: of one that is gone, nothing is in use."""
        return self.engine if self.state == "Ready" else None

    def report(self, now: float) -> BackendStatus:
        engine = _describe(self.served) if self.served else None
        return BackendStatus.model_validate(
            {
                "state": self.state,
                "message": self.message,
                "since_seconds": round(now - self.since, 3),
                "load_seconds": self.load_seconds,
                "last_failure": self.last_failure,
                "progress": self.progress,
                "engine": engine,
            }
        )


def _describe(engine: EngineStatus) -> dict[str, Any]:
    """Plain values only; the tensors of a Predict model as one text."""
    plain: dict[str, Any] = engine.model_dump(exclude={"signature", "example"})
    return plain if engine.signature is None else {**plain, "signature": engine.signature.wire().describe()}


def why_dead(state: BackendState, now: float, silent_seconds: float, step_age: float, step_timeout: float) -> str:
    """Empty if Triton and the engine deserve to live, else why the container should be restarted."""
    if state.state == "Unreachable":
        return f"Triton, or the engine in it, is gone: {state.message or 'it does not answer.'}"
    if state.state in ("Ready", "Hung"):
        if silent_seconds >= DEAD_SECONDS:
            return f"The engine has been silent for {silent_seconds:.1f} seconds."
        if step_age >= step_timeout:
            return f"A step of the engine has run for {step_age:.1f} seconds; {step_timeout:g} are allowed."
        return ""
    if now - state.live_at > LIVE_PROBE_SECONDS:
        return "Triton does not answer that it is live."
    return ""


def ends_nothing(state: BackendState, now: float, why: str) -> bool:
    """Whether waiting for running streams is pointless, given why_dead: a drain must not keep a dead container alive."""
    if state.state == "Hung":
        return bool(why) or now - state.since > HUNG_FOR_GOOD_SECONDS
    return bool(why) or state.state != "Ready"


_REASONS = {
    "Starting": ("BackendStarting", "Triton is starting."),
    "Loading": ("Loading", "The model is being loaded."),
    "LoadFailed": ("LoadFailed", "The model could not be loaded; the cause is in /status."),
    "Unreachable": ("BackendUnreachable", "The model's process is gone and is being restarted."),
    "Hung": ("BackendHung", "The model's process does not answer."),
}


def describe_progress(progress: LoadProgress) -> str:
    """In steps of ten percent: it becomes a LocalModel's status, which is not to change every second."""
    return f"The model is being loaded: {progress.percent // 10 * 10} % of {progress.total_bytes / 1e9:.1f} GB are read."


def why_not_serving(state: BackendState, *, stream_open: bool) -> tuple[str, str] | None:
    """Why a request sent now would not reach the engine: a reason and a sentence."""
    if state.state == "Loading" and state.progress is not None:
        return "Loading", describe_progress(state.progress)
    if state.state in _REASONS:
        return _REASONS[state.state]
    if not stream_open:
        return "BackendUnreachable", "The connection to the engine is being renewed."
    return None


def why_not_ready(
    state: BackendState, *, stream_open: bool, draining: bool, problem: tuple[str, str] | None, circuit_open: bool
) -> tuple[str, str] | None:
    """Why no new request should be sent here; None means ready."""
    if draining:
        return "Draining", "This replica is shutting down."
    if problem is not None:
        return problem
    serving = why_not_serving(state, stream_open=stream_open)
    if serving is None and circuit_open:
        return "CircuitOpen", "Requests failed several times in a row, so none are sent to the model for a while."
    if serving is None and not state.evidence:
        return "NoEvidence", "The model is loaded, but has yet to answer; a test request asks it."
    return serving

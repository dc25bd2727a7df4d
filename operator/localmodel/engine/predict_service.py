"""The channel of a Predict model: heartbeats, status and refusals, for a network that another process computes.

Why it exists: the tensors go through Triton's own batcher to the model `predict`, but a gateway watches the engine by its event
stream. So this speaks for the worker: its steps, its hangs and its death are told as if they were its own. It loads no torch
and must not know Triton.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import NoReturn

from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from localmodel.api.channel import Embed
from localmodel.api.engine import EngineConfig
from localmodel.api.engine_status import EngineStatus
from localmodel.engine.channel_service import ChannelService
from localmodel.engine.errors import Refused, SignatureMissing
from localmodel.engine.gateways import Stream
from localmodel.engine.predict_link import BEAT_SECONDS, Watch, WorkerState
from localmodel.engine.predict_signature import Described, describe
from localmodel.engine.sequence import Output

PREDICTS_ONLY = "this model takes tensors; send them to /v2/models/NAME/infer"
_QUIET_SECONDS = 1.0
"""A worker that has said nothing for longer is stopped, and not only late on a busy machine."""


class WorkerEnded(Exception):
    """The network's process is gone."""


class PredictEngine:
    """What channel and publisher ask of an engine, answered from the worker's last words."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def step_age_seconds(self) -> float:
        """Seconds since the worker's running step began, or since it fell silent."""
        state, now = self._watch.read(), monotonic()
        if state is None or state.ended:
            return 0.0
        quiet = now - state.at
        step = now - state.step_began if state.step_began is not None else 0.0
        return max(step, quiet if quiet > _QUIET_SECONDS else 0.0)

    def end_all(self) -> list[Output]:
        return []

    def add_request(self, *_: object, **__: object) -> NoReturn:
        raise Refused("invalid_request", PREDICTS_ONLY)

    def cancel(self, key: object) -> None:
        """No sequence is ever known here."""


class PredictService(ChannelService):
    def __init__(self, config: EngineConfig, *, log: Callable[[str], None], exit_process: Callable[[], None]) -> None:
        """Reads what the model's file says of its tensors. Raises LoadError. Nothing runs before `start`."""
        super().__init__(config, log, exit_process)
        self._described = _describe(config)
        self._watch = Watch(Path(config.channel_token_file).parent)
        self._stopping = threading.Event()
        self._open(PredictEngine(self._watch), Tokenizer(WordLevel({}, "")), _refuse_schema, _refuse_embed)

    def start(self) -> None:
        super().start()
        batch = f"batches of {self._described.max_batch_size}" if self._described.signature.batched else "no batches"
        self._log(f"{self._described.file}: {self._described.signature.describe()}, {batch}")

    def stop(self) -> None:
        self._stopping.set()
        super().stop()

    def status(self) -> EngineStatus:
        state = self._watch.read() or WorkerState()
        return EngineStatus(
            model_version=self._config.model_version,
            task="Predict",
            architecture=self._config.format or "",
            parameters=state.parameters,
            dtype=state.dtype,
            device=state.device,
            context_window=self._config.context_window,
            max_batch_size=self._described.max_batch_size,
            running=int(state.step_began is not None),
            waiting=0,
            kv_tokens_capacity=0,
            kv_tokens_used=0,
            weights_bytes=state.weights_bytes,
            kv_bytes=0,
            memory_bytes=state.memory_bytes,
            load_seconds=state.load_seconds,
            tokens_total=0,
            steps_total=state.steps_total,
            step_age_seconds=monotonic() - state.step_began if state.step_began is not None else 0.0,
            signature=self._described.signature,
            example=state.example,
            rows_total=state.rows_total,
        )

    def _work(self) -> None:
        """Ends this process when the worker has died: the gateway then loads both anew."""
        seen = False
        while not self._stopping.wait(BEAT_SECONDS):
            state = self._watch.read()
            if state is None or state.ended:
                continue
            lives = self._watch.lives()
            if seen and not lives:
                self._publisher.fail(WorkerEnded(state.failure or "the process that computes the model has ended"))
                return
            seen = seen or lives


def _describe(config: EngineConfig) -> Described:
    try:
        return describe(config)
    except SignatureMissing:  # with torch more can be said
        from localmodel.engine.predict_network import describe_with_names

        return describe_with_names(config)


def _refuse_schema(_schema: str) -> NoReturn:
    raise Refused("invalid_request", PREDICTS_ONLY)


def _refuse_embed(_request: Embed, _stream: Stream) -> None:
    raise Refused("invalid_request", PREDICTS_ONLY)

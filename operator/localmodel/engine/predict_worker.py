"""The process that has the network: computes Triton's batches one after the other and tells the channel's process how it is.

Why it exists: a request that breaks is a refusal, a card that broke is the end of the process, and both are decided here, away
from Triton's own words. It must not know Triton.
"""

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

import torch

from localmodel.api.channel import Refusal
from localmodel.api.engine import EngineConfig
from localmodel.engine.housekeeping import settle
from localmodel.engine.predict_batch import Arrays, DeviceFailed, compute
from localmodel.engine.predict_link import Beacon, WorkerState
from localmodel.engine.predict_network import load_network
from localmodel.engine.predict_trial import explain
from localmodel.engine.resident import resident_bytes

_LAST_WORDS_SECONDS = 0.2
"""For Triton to send the answers of a step that was the last one."""


class PredictWorker:
    def __init__(self, config: EngineConfig, *, log: Callable[[str], None], exit_process: Callable[[], None]) -> None:
        """Loads the network. Raises LoadError. The channel's process hears nothing before `start`."""
        self._log = log
        self._exit_process = exit_process
        self._network = network = load_network(config)
        self.input_names = tuple(tensor.name for tensor in network.described.signature.inputs)
        self.output_names = tuple(tensor.name for tensor in network.described.signature.outputs)
        self._step_began: float | None = None
        self._failure = ""
        self._steps_total = self._rows_total = 0
        self._beacon = Beacon(Path(config.channel_token_file).parent, self._state)

    def start(self) -> None:
        settle()
        network = self._network
        self._beacon.start()
        self._log(
            f"{network.described.file}: {network.parameters:,} parameters, {network.dtype} on {network.device}, predicted "
            f"{network.predicted_bytes:,} bytes, loaded in {network.load_seconds:.1f} s"
        )

    def stop(self) -> None:
        self._beacon.stop()

    def compute(self, requests: Sequence[Arrays]) -> list[Arrays | Refusal]:
        """Triton calls this for one batch at a time."""
        network = self._network
        self._step_began = monotonic()
        answers = compute(network.run, network.described.signature, network.device, requests)
        self._steps_total += 1
        self._rows_total += sum(len(request[0]) for request in requests)
        self._step_began = None
        if failed := next((answer for answer in answers if isinstance(answer, DeviceFailed)), None):
            self._failure = str(failed)
            threading.Timer(_LAST_WORDS_SECONDS, self._end).start()
        return [self._refuse(answer) if isinstance(answer, Exception) else answer for answer in answers]

    def _refuse(self, error: Exception) -> Refusal:
        if isinstance(error, DeviceFailed):
            return Refusal(code="failed", message=f"the device failed: {error}")
        if isinstance(error, torch.OutOfMemoryError):
            return Refusal(code="failed", message="the device has no memory left for this batch")
        return Refusal(code="invalid_request", message=f"the network can't compute this input: {explain(error)}")

    def _end(self) -> None:
        self._log(f"the device failed; process {os.getpid()} ends")
        self._exit_process()

    def _state(self) -> WorkerState:
        network = self._network
        on_card = network.device.type == "cuda"
        return WorkerState(
            step_began=self._step_began,
            failure=self._failure,
            example=network.example,
            dtype=network.dtype,
            device=str(network.device),
            parameters=network.parameters,
            weights_bytes=network.weights_bytes,
            memory_bytes=torch.cuda.max_memory_reserved(network.device) if on_card else resident_bytes(),
            load_seconds=network.load_seconds,
            steps_total=self._steps_total,
            rows_total=self._rows_total,
        )

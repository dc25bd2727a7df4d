"""A model for the real Triton whose steps cost no time, so that what is measured is transport: the channel of the gateway, with
one response per step for all sequences, and Triton's own way, with one response per token of each request.

Not the engine: it makes one word per token, and knows of the channel just what the bench needs.
"""

import itertools
import json
import os
import queue
import sys
import threading
import time
from typing import Any

sys.path[:0] = [folder for folder in os.environ.get("LOCALMODEL_PYTHONPATH", "").split(os.pathsep) if folder]

import numpy as np  # noqa: E402
import triton_python_backend_utils as pb_utils  # noqa: E402

WORD = " word"
GAP_SECONDS = 0.002
"""Between two responses of the event stream, as in the real engine."""
STATUS = {
    "model_version": "1", "architecture": "Fake", "parameters": 1, "dtype": "none", "device": "cpu", "context_window": 4096,
    "max_batch_size": 4096, "running": 0, "waiting": 0, "kv_tokens_capacity": 100_000_000, "kv_tokens_used": 0,
    "weights_bytes": 1, "kv_bytes": 1, "memory_bytes": 1, "load_seconds": 0.1, "tokens_total": 0, "steps_total": 0,
    "step_age_seconds": 0.0,
}  # fmt: skip


def send(sender: Any, document: Any, *, final: bool = False) -> None:
    tensor = pb_utils.Tensor("RESPONSE", np.array([json.dumps(document).encode()], dtype=np.object_))
    sender.send(pb_utils.InferenceResponse([tensor]), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if final else 0)


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self._numbers = itertools.count(1)
        self._events: Any = None
        self._submitted: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
        self._direct: queue.SimpleQueue[tuple[Any, int]] = queue.SimpleQueue()
        threading.Thread(target=self._step_channel, daemon=True).start()
        threading.Thread(target=self._step_direct, daemon=True).start()

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            sender = request.get_response_sender()
            message = json.loads(pb_utils.get_input_tensor_by_name(request, "REQUEST").as_numpy().reshape(-1)[0])
            match message["op"]:
                case "status":
                    send(sender, STATUS, final=True)
                case "submit":
                    for each in message["sequences"]:
                        self._submitted.put((each["id"], each["sampling"]["max_tokens"]))
                    send(sender, {"accepted": [each["id"] for each in message["sequences"]], "refused": {}}, final=True)
                case "cancel":
                    send(sender, {"cancelled": message["ids"]}, final=True)
                case "events":
                    send(sender, [message["after"], 0.0, False, []])
                    self._events = sender
                case "generate":
                    self._direct.put((sender, message["sampling"]["max_tokens"]))

    def _step_channel(self) -> None:
        running: dict[str, list[int]] = {}
        number, told = 0, time.monotonic()
        while True:
            while not self._submitted.empty():
                identity, tokens = self._submitted.get()
                running[identity] = [0, tokens]
            time.sleep(GAP_SECONDS)
            if self._events is None or (not running and time.monotonic() - told < 0.1):
                continue
            rows = []
            for identity, counts in list(running.items()):
                counts[0] += 1
                last = counts[0] >= counts[1]
                rows.append([identity, WORD, 1, "length", [9, counts[0]]] if last else [identity, WORD])
                if last:
                    del running[identity]
            number += bool(rows)
            told = time.monotonic()
            send(self._events, [number, 0.0, False, rows])

    def _step_direct(self) -> None:
        running: list[list[Any]] = []
        while True:
            while not running or not self._direct.empty():
                running.append([*self._direct.get(), 0])
            for each in running:
                each[2] += 1
                send(each[0], {"text": WORD}, final=each[2] >= each[1])
            running = [each for each in running if each[2] < each[1]]

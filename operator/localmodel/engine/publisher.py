"""The thread that makes text and sends it while the engine's thread computes the next step.

Why it exists: a step must never wait for text or for Triton, and heartbeats must go on while a step hangs. It also is the
one that notices a hung step. It must not touch the device.
"""

import queue
import threading
import time
from collections.abc import Callable
from typing import Protocol

from localmodel.engine.channel import Channel
from localmodel.engine.failures import explain_failure, explain_hang
from localmodel.engine.pump import Pump
from localmodel.engine.sequence import Output

STEP_LIMIT_SECONDS = 60.0
"""No step takes so long on any machine that could serve; a longer one hangs."""
LEAST_WAIT_SECONDS = 0.0005
CATCH_UP_SECONDS = 0.0003
"""What a step may wait when the text of the two before is not made yet: without it, steps that cost nothing keep the interpreter
to themselves, and text comes late and all at once. Steps that compute are longer than their text and never wait."""
PAUSE_SECONDS = 0.001
"""At most, until an answer's first token is sent: the host's work for the step after the next can wait, the card has the next."""


class Steps(Protocol):
    """What the publisher asks of an engine."""

    def step_age_seconds(self) -> float: ...

    def end_all(self) -> list[Output]: ...


class Publisher:
    def __init__(self, engine: Steps, on_fatal: Callable[[str], None], step_limit_seconds: float = STEP_LIMIT_SECONDS):
        """`on_fatal` is called, after every sequence was told, when the engine can't go on; it is to end the process."""
        self._engine = engine
        self._on_fatal = on_fatal
        self._step_limit_seconds = step_limit_seconds
        self._inbox: queue.SimpleQueue[tuple[list[Output], threading.Event | None]] = queue.SimpleQueue()
        self._awaited: list[threading.Event] = []
        """To be set once what came with them is sent."""
        self._failure: str | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, channel: Channel) -> None:
        self._thread = threading.Thread(target=self._run, args=(channel,), name="publisher", daemon=True)
        self._thread.start()

    def put(self, outputs: list[Output]) -> None:
        """Hands over outputs, or with an empty list just wakes the thread."""
        self._inbox.put((outputs, None))

    def put_step(self, outputs: list[Output], *, pause: bool = False) -> None:
        """Hands over the outputs of a step; lets the thread catch up for a moment if it is behind. `pause`: until first tokens in
        them are sent, or for a moment."""
        behind = self._inbox.qsize() > 1
        sent = threading.Event() if pause else None
        self._inbox.put((outputs, sent))
        if sent:
            sent.wait(PAUSE_SECONDS)
        elif behind:
            time.sleep(CATCH_UP_SECONDS)

    def fail(self, error: BaseException) -> None:
        """The engine's thread can't go on: every sequence is to end with what `error` says."""
        self._failure = str(explain_failure(error))
        self.put([])

    def stop(self) -> None:
        """Ends every sequence and stream, then the thread."""
        self._stopping.set()
        self.put([])
        if self._thread:
            self._thread.join()

    def _run(self, channel: Channel) -> None:
        try:
            self._serve(channel, Pump(channel))
        except Exception as error:
            self._on_fatal(f"the publisher failed: {error!r}")
            raise

    def _serve(self, channel: Channel, pump: Pump) -> None:
        wait = 0.0
        while not self._stopping.is_set():
            outputs = self._receive(wait)
            age = self._engine.step_age_seconds()
            left = pump.run_ahead(outputs, time.monotonic(), age)
            if left is not outputs:
                self._tell_sent()
            channel.deliver(left)
            if age > self._step_limit_seconds:
                self._failure = str(explain_hang(age))
            if self._failure:
                break
            wait = pump.run(time.monotonic(), age)
            self._tell_sent()
        message = self._failure or "the model is being unloaded; send the request again"
        channel.deliver(self._receive(0))
        channel.deliver(self._engine.end_all(), message)
        pump.run(time.monotonic() + 1, 0, self._failure or "")  # later than any gap between two batches
        pump.close_all()
        if self._failure:
            self._on_fatal(self._failure)

    def _receive(self, wait_seconds: float) -> list[Output]:
        """Everything in the inbox, waiting for the first at most `wait_seconds`."""
        outputs: list[Output] = []
        timeout: float = max(wait_seconds, LEAST_WAIT_SECONDS)
        while True:
            try:
                more, sent = self._inbox.get(timeout=timeout) if timeout else self._inbox.get_nowait()
            except queue.Empty:
                return outputs
            outputs += more
            if sent:
                self._awaited.append(sent)
            timeout = 0

    def _tell_sent(self) -> None:
        for sent in self._awaited:
            sent.set()
        self._awaited.clear()

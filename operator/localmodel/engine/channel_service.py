"""How every kind of model is served: channel and publisher before an engine, one thread that works, and the process's end.

Why it exists: a text generator, an encoder and a Predict model differ in what computes and what is refused, not in how they are
started, heard and ended. It knows neither Triton nor torch.
"""

import os
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tokenizers import Tokenizer

from localmodel.api.channel import Embed
from localmodel.api.engine import EngineConfig
from localmodel.api.engine_status import EngineStatus
from localmodel.engine.channel import Channel, has_nothing, refuse_embed
from localmodel.engine.channel_token import read_or_create_token
from localmodel.engine.constraint import Constraint
from localmodel.engine.gateways import Stream
from localmodel.engine.publisher import Publisher, Steps
from localmodel.engine.running import TakesRequests


class ServedEngine(TakesRequests, Steps, Protocol):
    """What channel and publisher ask of an engine."""


class ChannelService(ABC):
    def __init__(self, config: EngineConfig, log: Callable[[str], None], exit_process: Callable[[], None]) -> None:
        self._config = config
        self._log = log
        self._exit_process = exit_process

    def _open(
        self, engine: ServedEngine, tokenizer: Tokenizer, compile_schema: Callable[[str], Constraint],
        embed: Callable[[Embed, Stream], None] = refuse_embed, gateway_gone: Callable[[str], None] = has_nothing,
    ) -> None:  # fmt: skip
        """To be called once, when the model is there. Nothing runs before `start`."""
        self._publisher = Publisher(engine, self._fatal)
        self._channel = Channel(
            engine,
            tokenizer,
            read_or_create_token(Path(self._config.channel_token_file)),
            self._config.reconnect_grace_seconds,
            self._publisher.put,
            self.status,
            compile_schema,
            embed,
            gateway_gone,
        )
        self._worker = threading.Thread(target=self._run, name="engine", daemon=True)

    @abstractmethod
    def status(self) -> EngineStatus: ...

    @abstractmethod
    def _work(self) -> None:
        """Until the publisher has stopped. What it raises ends every request, and then the process."""

    def start(self) -> None:
        self._publisher.start(self._channel)
        self._worker.start()

    def handle(self, document: str | bytes, stream: Stream) -> None:
        self._channel.handle(document, stream)

    def stop(self) -> None:
        """Ends every request and all threads."""
        self._channel.close()
        self._publisher.stop()
        self._worker.join()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # a panic of a library in Rust is no Exception
            self._log(traceback.format_exc())
            self._publisher.fail(self._explain(error))

    def _explain(self, error: BaseException) -> BaseException:
        """What is behind `error`."""
        return error

    def _fatal(self, message: str) -> None:
        self._log(f"{message}; process {os.getpid()} ends")
        self._exit_process()

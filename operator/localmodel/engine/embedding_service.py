"""An embedding model as it is served: an encoder and its queue behind a channel.

Why it exists: it is to an embedding model what `service` is to a text generator. The channel and the publisher are the same:
a gateway's event stream carries heartbeats only, which tell it that the engine lives. It must not know Triton.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import torch

from localmodel.api.channel import Embed, Embedded, Refusal
from localmodel.api.engine import EngineConfig
from localmodel.api.engine_status import EngineStatus
from localmodel.engine.channel_service import ChannelService
from localmodel.engine.embedding_engine import GENERATES_NOTHING, EmbeddingEngine
from localmodel.engine.embedding_loader import load_encoder
from localmodel.engine.errors import Refused
from localmodel.engine.gateways import Stream
from localmodel.engine.housekeeping import QUIET_SECONDS, release_memory, settle
from localmodel.engine.resident import resident_bytes
from localmodel.engine.tokenizer import load_tokenizer


class EmbeddingService(ChannelService):
    def __init__(self, config: EngineConfig, *, log: Callable[[str], None], exit_process: Callable[[], None]) -> None:
        """Loads the model. Raises LoadError. Nothing runs before `start`."""
        super().__init__(config, log, exit_process)
        self._model = model = load_encoder(config)
        self.engine = EmbeddingEngine(
            model.encoder.encode,
            context=config.context_window,
            vocabulary=model.config.vocabulary,
            step_tokens=model.batch_tokens,
        )
        self._answers = ThreadPoolExecutor(1, thread_name_prefix="answers")
        self._open(
            self.engine, load_tokenizer(model.directory.tokenizer_file), _refuse_schema, self._embed, self.engine.cancel_all
        )

    def start(self) -> None:
        settle()
        super().start()
        model = self._model
        self._log(
            f"{model.directory.architecture} from {model.directory.name}: {model.parameters:,} parameters, {model.dtype} on "
            f"{model.device}, texts of at most {self._config.context_window} tokens, predicted {model.predicted_bytes:,} bytes, "
            f"loaded in {model.load_seconds:.1f} s"
        )

    def stop(self) -> None:
        super().stop()
        self._answers.shutdown(wait=True)

    def status(self) -> EngineStatus:
        model, engine = self._model, self.engine
        running, waiting, _ = engine.load()
        return EngineStatus(
            model_version=self._config.model_version,
            task="Embedding",
            architecture=model.directory.architecture,
            parameters=model.parameters,
            dtype=str(model.dtype).removeprefix("torch."),
            device=str(model.device),
            context_window=self._config.context_window,
            max_batch_size=self._config.max_batch_size,
            running=running,
            waiting=waiting,
            kv_tokens_capacity=0,
            kv_tokens_used=0,
            weights_bytes=model.weights_bytes,
            kv_bytes=0,
            memory_bytes=torch.cuda.max_memory_reserved(model.device) if model.device.type == "cuda" else resident_bytes(),
            load_seconds=model.load_seconds,
            tokens_total=engine.tokens_total,
            steps_total=engine.steps_total,
            step_age_seconds=engine.step_age_seconds(),
        )

    def _embed(self, request: Embed, stream: Stream) -> None:
        def answer(message: Embedded | Refusal) -> None:
            self._answers.submit(lambda: stream.send(message.model_dump_json(), final=True))

        self.engine.embed((request.instance, request.id), request.inputs, answer)

    def _work(self) -> None:
        if self._config.cpu_threads and self._config.device == "cpu":
            torch.set_num_threads(self._config.cpu_threads)
        while self.engine.wait_for_work(QUIET_SECONDS, lambda: release_memory(self._model.device)):
            self.engine.step()

    def _fatal(self, message: str) -> None:
        self._answers.shutdown(wait=True)  # the refusals of what waited
        super()._fatal(message)


def _refuse_schema(_schema: str) -> NoReturn:
    raise Refused("invalid_request", GENERATES_NOTHING)

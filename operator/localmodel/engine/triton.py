"""The Python backend's model classes: the only module that knows Triton.

Why it exists: Triton calls `initialize`, `execute` and `finalize`; everything else is a service's. In the model `llm`, `execute`
never waits for the engine: it answers small requests at once and leaves long streams to the publisher's thread. In the model
`predict` it computes what Triton has put into one batch. A service is imported when it is needed: `llm` of a Predict model
has no use for torch.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import triton_python_backend_utils as pb_utils
from pydantic import ValidationError

from localmodel.api.channel import REQUEST, RESPONSE, Refusal
from localmodel.api.constants import FILE_MODEL_JSON, TRITON_MODEL_NAME
from localmodel.api.engine import EngineConfig
from localmodel.engine.errors import InvalidEngineConfig
from localmodel.engine.gateways import Stream

EXIT_CODE = 70


class TritonStream:
    """One decoupled request's way back to its client."""

    def __init__(self, sender: Any) -> None:
        self._sender = sender
        self._closed = False

    def send(self, text: str, *, final: bool = False) -> None:
        tensor = pb_utils.Tensor(RESPONSE, np.array([text.encode()], dtype=np.object_))
        flags = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if final else 0
        self._closed = self._closed or final
        self._sender.send(pb_utils.InferenceResponse([tensor]), flags=flags)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def is_cancelled(self) -> bool:
        return bool(self._sender.is_cancelled())


class Service(Protocol):
    def __init__(self, config: EngineConfig, *, log: Callable[[str], None], exit_process: Callable[[], None]) -> None: ...

    def start(self) -> None: ...

    def handle(self, document: str | bytes, stream: Stream) -> None: ...

    def stop(self) -> None: ...


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        """Loads the model; a LoadError's message becomes the answer to the load request."""
        directory = Path(args["model_repository"], args["model_version"])
        config = _read_config(directory / FILE_MODEL_JSON)
        service = _choose_service(config)
        self._service = service(config, log=pb_utils.Logger.log_info, exit_process=lambda: os._exit(EXIT_CODE))
        self._service.start()

    def execute(self, requests: list[Any]) -> None:
        """Decoupled: returns at once, answers through each request's sender."""
        for request in requests:
            stream = TritonStream(request.get_response_sender())
            try:
                document = pb_utils.get_input_tensor_by_name(request, REQUEST).as_numpy().reshape(-1)[0]
                self._service.handle(document, stream)
            except Exception as error:  # a bad request fails alone
                pb_utils.Logger.log_error(f"request failed: {error!r}")
                _refuse(stream, Refusal(code="failed", message=f"internal error: {error}"))

    def finalize(self) -> None:
        self._service.stop()


class PredictPythonModel:
    """The model `predict`."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the network; a LoadError's message becomes the answer to the load request."""
        from localmodel.engine.predict_worker import PredictWorker

        repository = Path(args["model_repository"]).parent
        config = _read_config(repository / TRITON_MODEL_NAME / args["model_version"] / FILE_MODEL_JSON)
        self._worker = PredictWorker(config, log=pb_utils.Logger.log_info, exit_process=lambda: os._exit(EXIT_CODE))
        self._worker.start()

    def execute(self, requests: list[Any]) -> list[Any]:
        """One batch: as many responses, in the same order."""
        names = self._worker.input_names
        arrays = [[pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in names] for request in requests]
        answers = self._worker.compute(arrays)
        return [_respond(request, answer, self._worker.output_names) for request, answer in zip(requests, answers, strict=True)]

    def finalize(self) -> None:
        self._worker.stop()


def _refuse(stream: Stream, refusal: Refusal) -> None:
    try:
        stream.send(refusal.model_dump_json(), final=True)
    except Exception as error:  # who asked has left, or was answered already
        pb_utils.Logger.log_error(f"its refusal was not sent: {error!r}")


def _respond(request: Any, answer: list[Any] | Refusal, names: tuple[str, ...]) -> Any:
    if isinstance(answer, Refusal):
        code = pb_utils.TritonError.INVALID_ARG if answer.code == "invalid_request" else pb_utils.TritonError.INTERNAL
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(answer.message, code))
    wanted = request.requested_output_names()
    return pb_utils.InferenceResponse(
        [pb_utils.Tensor(name, array) for name, array in zip(names, answer, strict=True) if name in wanted]
    )


def _choose_service(config: EngineConfig) -> type[Service]:
    if config.task == "Predict":
        from localmodel.engine.predict_service import PredictService

        return PredictService
    from localmodel.engine.torch_import import import_torch

    import_torch()
    if config.task == "Embedding":
        from localmodel.engine.embedding_service import EmbeddingService

        return EmbeddingService
    from localmodel.engine.service import EngineService

    return EngineService


def _read_config(path: Path) -> EngineConfig:
    try:
        return EngineConfig.model_validate(json.loads(path.read_bytes()))
    except OSError as error:
        raise InvalidEngineConfig(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, ValidationError) as error:
        raise InvalidEngineConfig(f"{path}: {error}") from error

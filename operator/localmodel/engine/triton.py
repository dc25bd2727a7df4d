"""The Python backend's model class: the only module that knows Triton.

Why it exists: Triton calls `initialize`, `execute` and `finalize`; everything else is EngineService. `execute` never
waits for the engine: it answers small requests at once and leaves long streams to the publisher's thread.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from pydantic import ValidationError

from localmodel.api.channel import REQUEST, RESPONSE, Refusal
from localmodel.api.constants import FILE_MODEL_JSON
from localmodel.api.engine import EngineConfig
from localmodel.engine.embedding_service import EmbeddingService
from localmodel.engine.errors import InvalidEngineConfig
from localmodel.engine.service import EngineService

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


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        """Loads the model; a LoadError's message becomes the answer to the load request."""
        directory = Path(args["model_repository"], args["model_version"])
        config = _read_config(directory / FILE_MODEL_JSON)
        service = EmbeddingService if config.task == "Embedding" else EngineService
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
                stream.send(Refusal(code="failed", message=f"internal error: {error}").model_dump_json(), final=True)

    def finalize(self) -> None:
        self._service.stop()


def _read_config(path: Path) -> EngineConfig:
    try:
        return EngineConfig.model_validate(json.loads(path.read_bytes()))
    except OSError as error:
        raise InvalidEngineConfig(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, ValidationError) as error:
        raise InvalidEngineConfig(f"{path}: {error}") from error

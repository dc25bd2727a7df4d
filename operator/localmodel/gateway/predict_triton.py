"""Loads the two models of a Predict model: `llm`, which reads the signature and keeps the channel, then `predict`.

Triton must know the tensors before it loads `predict`, so its configuration goes with the request to load. It decides nothing.
"""

import asyncio
import contextlib
import json

import aiohttp

from localmodel.api.constants import TRITON_PREDICT_NAME
from localmodel.api.engine_status import EngineStatus
from localmodel.api.gateway import GatewaySettings
from localmodel.api.predict import Signature
from localmodel.core.predict import build_predict_config
from localmodel.gateway.backend_errors import BackendError, BackendGarbage, Refused
from localmodel.gateway.channel import Channel
from localmodel.gateway.first_load import Answer
from localmodel.gateway.triton import Triton

_STATUS_SECONDS = 10.0
_NOTICE_SECONDS = 4.0


def load_through(
    session: aiohttp.ClientSession, settings: GatewaySettings, link: Channel, begun: Answer | None
) -> "Triton | PredictTriton":
    """What the gateway asks for the load of the model that it serves. `begun`: that of `llm`."""
    control = Triton(session, settings.triton_url, settings.triton_model, begun)
    if settings.task != "Predict":
        return control
    return PredictTriton(control, Triton(session, settings.triton_url, TRITON_PREDICT_NAME), link, settings.batch_delay_seconds)


class PredictTriton:
    def __init__(self, control: Triton, tensors: Triton, link: Channel, batch_delay_seconds: float) -> None:
        self._control = control
        self._tensors = tensors
        self._channel = link
        self._batch_delay_seconds = batch_delay_seconds

    async def live(self) -> bool:
        return await self._control.live()

    async def loaded(self) -> bool:
        return await self._control.loaded() and await self._tensors.loaded()

    async def load(self) -> None:
        """As of one model. Raises BackendError with Triton's words, or BackendUnreachable."""
        await self._control.load()
        signature, engine = await self._ask()
        config = build_predict_config(signature, engine.max_batch_size, self._batch_delay_seconds)
        await self._tensors.load(json.dumps(config))

    async def _ask(self) -> tuple[Signature, EngineStatus]:
        try:
            engine = await self._channel.status(_STATUS_SECONDS)
        except (BackendGarbage, Refused) as error:
            raise BackendError(f"the engine does not tell its signature: {error}") from error
        if engine.signature is None:
            raise BackendError("the engine does not tell its signature: its image and the gateway's do not fit each other")
        return engine.signature, engine

    async def unload(self) -> None:
        """Triton ends itself if `predict` goes while a request waits for its dead process, which Triton sees within three
        seconds; then it answers all that wait."""
        await asyncio.sleep(_NOTICE_SECONDS)
        for model in (self._tensors, self._control):
            with contextlib.suppress(BackendError):
                await model.unload()

"""The gateway's end of the channel: submit, cancel, status and the event stream, over Triton's HTTP.

It turns Triton's many ways to say no (a 200 with an error inside, a 400, a closed socket) into `backend_errors` and decides
nothing itself. Every request is built here; nothing of a client's request goes through.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import aiohttp
from pydantic import BaseModel

from localmodel.api import channel
from localmodel.api.constants import TRITON_PREDICT_NAME
from localmodel.api.engine_status import EngineStatus
from localmodel.gateway.backend_errors import BackendGarbage, BackendSilent, BackendUnreachable, backend_error
from localmodel.gateway.kept_connections import BODY_LIMIT, EndlessAnswer, KeptConnections
from localmodel.gateway.wire import envelope, error_message, parse_answer, submit_envelope

T = TypeVar("T", bound=BaseModel)

_HEAD_SECONDS = 5.0
"""From the request for events to the head of the answer, which comes at once."""
_JSON = {"content-type": "application/json"}
NO_HEADERS: Mapping[str, str] = {}


class Channel:
    def __init__(self, session: aiohttp.ClientSession, triton_url: str, model: str, token: str, instance: str) -> None:
        self._session = session
        self._calls = KeptConnections(triton_url)
        self._path = f"/v2/models/{model}/generate"
        self._stream = f"{triton_url}{self._path}_stream"
        self._infer_path = f"/v2/models/{TRITON_PREDICT_NAME}/infer"
        self.token = token
        self.instance = instance

    def forget(self) -> None:
        """The engine is a new one: Triton may leave open what the old one was asked."""
        self._calls.give_up()

    def close(self) -> None:
        """Kept connections; the session is not ours."""
        self._calls.close()

    async def submit(
        self, epoch: int, sequences: Sequence[channel.NewSequence], seconds: float, trace: Mapping[str, str]
    ) -> channel.Submitted:
        """`trace`: headers that name a client's request to whoever traces Triton."""
        body = submit_envelope(self.token, self.instance, epoch, sequences)
        return parse_answer(channel.Submitted, await self._post(self._path, body, {**_JSON, **trace}, seconds))

    async def cancel(self, ids: tuple[str, ...], seconds: float) -> tuple[str, ...]:
        request = channel.Cancel(token=self.token, instance=self.instance, ids=ids)
        return (await self._ask(channel.Cancelled, request, seconds)).cancelled

    async def embed(
        self, request: channel.Embed, seconds: float | None, trace: Mapping[str, str] = NO_HEADERS
    ) -> channel.Embedded:
        """`seconds` None: as long as the engine lives."""
        return await self._ask(channel.Embedded, request, seconds, trace)

    async def infer(self, body: bytes, header_length: int, seconds: float) -> None:
        """One request of tensors to a Predict model; whatever it answers is good."""
        headers = {"inference-header-content-length": str(header_length), "content-type": "application/octet-stream"}
        await self._post(self._infer_path, body, headers, seconds)

    async def status(self, seconds: float) -> EngineStatus:
        return await self._ask(EngineStatus, channel.StatusRequest(token=self.token), seconds)

    @asynccontextmanager
    async def events(self, epoch: int, after: int) -> AsyncIterator[aiohttp.StreamReader]:
        """The open event stream's bytes, to be cut by sse.Decoder."""
        request = channel.Events(token=self.token, instance=self.instance, epoch=epoch, after=after)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=1, sock_read=None)
        try:
            async with asyncio.timeout(_HEAD_SECONDS) as clock:
                async with self._session.post(self._stream, data=envelope(request), headers=_JSON, timeout=timeout) as reply:
                    if reply.status != 200:
                        raise backend_error(error_message(await reply.content.read(65536), reply.status), reply.status)
                    clock.reschedule(None)
                    yield reply.content
        except TimeoutError as error:
            raise BackendSilent("no answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise BackendUnreachable(str(error) or type(error).__name__) from error

    async def _ask(self, model: type[T], request: BaseModel, seconds: float | None, trace: Mapping[str, str] = NO_HEADERS) -> T:
        """All of these may be said twice: the engine answers a repeated submit or cancel as it did the first."""
        return parse_answer(model, await self._post(self._path, envelope(request), {**_JSON, **trace}, seconds))

    async def _post(self, path: str, body: bytes, headers: Mapping[str, str], seconds: float | None) -> bytes:
        try:
            status, answer = await self._calls.post(path, body, headers, seconds)
        except TimeoutError as error:
            raise BackendSilent("no answer in time") from error
        except OSError as error:
            raise BackendUnreachable(str(error) or type(error).__name__) from error
        except EndlessAnswer as error:
            raise BackendGarbage(str(error)) from None
        if status != 200:
            raise backend_error(error_message(answer, status), status)
        return answer


async def read_whole(reply: aiohttp.ClientResponse) -> bytes:
    """The body, if it has an end."""
    body = bytearray()
    while chunk := await reply.content.readany():
        body += chunk
        if len(body) > BODY_LIMIT:
            raise BackendGarbage("an answer that does not end")
    return bytes(body)

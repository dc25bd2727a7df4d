"""The gateway's end of the channel: submit, cancel, status and the event stream, over Triton's HTTP.

It turns Triton's many ways to say no (a 200 with an error inside, a 400, a closed socket) into three exceptions and decides
nothing itself. Every request is built here; nothing of a client's request goes through.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
from pydantic import BaseModel, ValidationError

from localmodel.api import channel
from localmodel.api.constants import TRITON_PREDICT_NAME

T = TypeVar("T", bound=BaseModel)

_GONE = ("is not healthy", "Request for unknown model")
"""Triton's words for a dead or unloaded model; the status does not tell (400 or 404)."""
_HEAD_SECONDS = 5.0
"""From the request for events to the head of the answer, which comes at once."""
_ANSWER_LIMIT = 4 * 1024 * 1024
NO_HEADERS: Mapping[str, str] = {}


class BackendUnreachable(Exception):
    """No connection, or it broke before an answer came: whether the request arrived is unknown."""


class BackendSilent(BackendUnreachable):
    """Connected, but no answer in time: hung, or busy."""


class BackendError(Exception):
    """Triton answered that it can't: the model is not loaded, its process died, the request failed."""


class BackendGone(BackendError):
    """Triton answers, but not the model: its process died, it is not loaded (yet), or Triton is full. Nothing ran."""


class BackendGarbage(Exception):
    """An answer that is not the channel's language."""


class Refused(Exception):
    """The engine's typed no."""

    def __init__(self, refusal: channel.Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Channel:
    def __init__(self, session: aiohttp.ClientSession, triton_url: str, model: str, token: str, instance: str) -> None:
        self._session = session
        self._generate = f"{triton_url}/v2/models/{model}/generate"
        self._stream = f"{triton_url}/v2/models/{model}/generate_stream"
        self._infer = f"{triton_url}/v2/models/{TRITON_PREDICT_NAME}/infer"
        self.token = token
        self.instance = instance

    async def submit(self, request: channel.Submit, seconds: float, trace: Mapping[str, str]) -> None:
        """`trace`: headers that name the client's request to whoever traces Triton."""
        document = await self._ask(request, seconds, trace)
        _parse(channel.Accepted, document)

    async def cancel(self, ids: tuple[str, ...], seconds: float) -> tuple[str, ...]:
        request = channel.Cancel(token=self.token, instance=self.instance, ids=ids)
        return _parse(channel.Cancelled, await self._ask(request, seconds)).cancelled

    async def embed(self, request: channel.Embed, seconds: float, trace: Mapping[str, str] = NO_HEADERS) -> channel.Embedded:
        return _parse(channel.Embedded, await self._ask(request, seconds, trace))

    async def infer(self, body: bytes, header_length: int, seconds: float) -> None:
        """One request of tensors to a Predict model; whatever it answers is good."""
        headers = {"inference-header-content-length": str(header_length), "content-type": "application/octet-stream"}
        await self._post(self._infer, body, headers, seconds)

    async def status(self, seconds: float) -> channel.EngineStatus:
        return _parse(channel.EngineStatus, await self._ask(channel.StatusRequest(token=self.token), seconds))

    @asynccontextmanager
    async def events(self, epoch: int, after: int) -> AsyncIterator[aiohttp.StreamReader]:
        """The open event stream's bytes, to be cut by sse.Decoder."""
        request = channel.Events(token=self.token, instance=self.instance, epoch=epoch, after=after)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=1, sock_read=None)
        try:
            async with asyncio.timeout(_HEAD_SECONDS) as clock:
                async with self._session.post(self._stream, data=_envelope(request), headers=_JSON, timeout=timeout) as reply:
                    if reply.status != 200:
                        raise backend_error(error_message(await reply.content.read(65536), reply.status), reply.status)
                    clock.reschedule(None)
                    yield reply.content
        except TimeoutError as error:
            raise BackendSilent("no answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise BackendUnreachable(str(error) or type(error).__name__) from error

    async def _ask(self, request: BaseModel, seconds: float, trace: Mapping[str, str] = NO_HEADERS) -> dict[str, Any]:
        document = open_envelope(await self._post(self._generate, _envelope(request), {**_JSON, **trace}, seconds))
        if not isinstance(document, dict):
            raise BackendGarbage("an answer that is no object")
        return document

    async def _post(self, url: str, data: bytes, headers: Mapping[str, str], seconds: float) -> bytes:
        timeout = aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._session.post(url, data=data, headers=headers, timeout=timeout) as reply:
                body = await read_whole(reply)
                if reply.status != 200:
                    raise backend_error(error_message(body, reply.status), reply.status)
        except TimeoutError as error:
            raise BackendSilent("no answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise BackendUnreachable(str(error) or type(error).__name__) from error
        return body


_JSON = {"content-type": "application/json"}


def _envelope(request: BaseModel) -> bytes:
    return json.dumps({channel.REQUEST: request.model_dump_json()}).encode()


def open_envelope(body: bytes) -> Any:
    """The JSON document inside Triton's answer; raises BackendError, Refused or BackendGarbage."""
    try:
        outer = json.loads(body)
        if isinstance(outer, dict) and "error" in outer:
            raise backend_error(str(outer["error"])[:2000], 200)
        inner = json.loads(outer[channel.RESPONSE])
    except (ValueError, TypeError, LookupError, RecursionError):
        raise BackendGarbage("an answer that is no JSON of the channel") from None
    if isinstance(inner, dict) and "code" in inner:
        raise Refused(_parse(channel.Refusal, inner))
    return inner


def _parse(model: type[T], document: dict[str, Any]) -> T:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise BackendGarbage(f"no {model.__name__}: {error.errors()[0]['msg']}") from None


async def read_whole(reply: aiohttp.ClientResponse) -> bytes:
    """The body, if it has an end."""
    body = bytearray()
    while chunk := await reply.content.readany():
        body += chunk
        if len(body) > _ANSWER_LIMIT:
            raise BackendGarbage("an answer that does not end")
    return bytes(body)


def backend_error(message: str, status: int) -> BackendError:
    """Triton's no, told apart by its words."""
    kind = BackendGone if status == 503 or any(words in message for words in _GONE) else BackendError
    return kind(message)


def error_message(body: bytes, status: int) -> str:
    """Triton's own words, or what there is instead."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, TypeError, LookupError):
        return f"Triton answered {status}: {body[:300].decode('utf-8', 'replace')}"

"""Copies one answer of Triton's to a client, byte for byte, within the timeouts of the request and a size limit."""

import asyncio
from time import monotonic

import aiohttp
from aiohttp import web
from aiohttp.http import HttpVersion11

from localmodel.api.gateway import Outcome
from localmodel.gateway import errors, sse
from localmodel.gateway.answers import common_headers
from localmodel.gateway.exchange import Exchange
from localmodel.gateway.timers import Deadlines, Limit

_ANSWER_LIMIT = 64 * 1024 * 1024
_GRACE_SECONDS = 2.0
"""For a client to take the error that ends its stream; then it is cut off, read or not."""
_REFUSED = b'"RESPONSE":"{\\"code\\":'
"""The engine's typed no, inside a 200."""


class Relay:
    def __init__(self, request: web.BaseRequest, exchange: Exchange, deadlines: Deadlines) -> None:
        self._request = request
        self._exchange = exchange
        self._deadlines = deadlines
        self._response: web.StreamResponse | None = None
        self._events = False
        self._outcome: Outcome = "ok"

    async def run(self, session: aiohttp.ClientSession, url: str, body: bytes) -> web.StreamResponse:
        try:
            response = await self._copy(session, url, body)
        except errors.ApiError as error:
            if self._response is None:
                raise
            await self._break_off(error)
        else:
            self._exchange.close(self._outcome)
            return response
        raise ConnectionResetError("the answer was broken off")

    async def _copy(self, session: aiohttp.ClientSession, url: str, body: bytes) -> web.StreamResponse:
        sent = monotonic()
        limit = self._deadlines.first_token(sent)
        try:
            async with asyncio.timeout(None) as clock:
                _move(clock, limit)
                timeout = aiohttp.ClientTimeout(total=None, sock_connect=1)
                async with session.post(url, data=body, headers=self._headers(), timeout=timeout) as reply:
                    while chunk := await self._read(reply):
                        if self._response is None:
                            self._exchange.waited += monotonic() - sent
                            self._response = await self._open(reply, chunk)
                        await self._response.write(chunk)
                        self._exchange.sent(chunk)
                        limit = self._deadlines.idle(monotonic())
                        _move(clock, limit)
                if self._response is None:
                    raise errors.protocol("an empty answer")
                await self._response.write_eof()
                return self._response
        except TimeoutError:
            raise limit.error() from None

    def _headers(self) -> dict[str, str]:
        trace = self._exchange.trace
        return {"content-type": "application/json", **(trace.headers() if trace is not None else {})}

    async def _read(self, reply: aiohttp.ClientResponse) -> bytes:
        try:
            chunk = await reply.content.readany()
        except (aiohttp.ClientError, OSError):
            raise errors.upstream("The connection broke.") from None
        if self._exchange.record.bytes_out + len(chunk) > _ANSWER_LIMIT:
            raise errors.protocol("an answer that does not end")
        return chunk

    async def _open(self, reply: aiohttp.ClientResponse, chunk: bytes) -> web.StreamResponse:
        """Triton's status and type with our headers; a 200 may still hold an error."""
        self._events = reply.content_type == "text/event-stream"
        if reply.status >= 400 or chunk.startswith((b'{"error"', b'data: {"error"')):
            self._outcome = "upstream_error"
        elif _REFUSED in chunk[:64]:
            self._outcome = "rejected"
        headers = common_headers(self._exchange, reply.status)
        headers["content-type"] = "text/event-stream; charset=utf-8" if self._events else "application/json"
        response = web.StreamResponse(status=reply.status, headers=headers)
        if self._request.version < HttpVersion11:
            response.force_close()
        await response.prepare(self._request)
        return response

    async def _break_off(self, error: errors.ApiError) -> None:
        self._exchange.close(error.outcome, error.code)
        transport = self._request.transport
        if transport is None:
            return
        asyncio.get_running_loop().call_later(_GRACE_SECONDS, transport.abort)
        if self._response is not None and self._events:
            await self._response.write(sse.frame(errors.triton_body(error.message)))
        transport.close()


def _move(clock: asyncio.Timeout, limit: Limit) -> None:
    clock.reschedule(asyncio.get_running_loop().time() + limit.at - monotonic())

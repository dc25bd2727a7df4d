"""Copies one answer of Triton's to a client, byte for byte, within the timeouts of the request and a size limit."""

import asyncio
from collections.abc import Callable
from time import monotonic

import aiohttp

from localmodel.api.events import SCHEMA_TOO_COMPLEX
from localmodel.api.gateway import Outcome
from localmodel.gateway import errors, sse
from localmodel.gateway.answers import common_headers
from localmodel.gateway.ending import Ending
from localmodel.gateway.exchange import Exchange
from localmodel.gateway.reply import Pieces
from localmodel.gateway.request import Request
from localmodel.gateway.timers import Deadlines, Limit
from localmodel.gateway.upstream import Upstream

_GRACE_SECONDS = 2.0
"""For a client to take the error that ends its stream; then it is cut off, read or not."""
_ERROR_EVENT = b'data: {"error"'
"""Inside a 200. No text of a model's looks like it: its quotes are escaped."""
_REFUSED = b'"RESPONSE":"{\\"code\\":'
"""The engine's typed no, inside a 200."""
_FAILED = b'\\"finish_reason\\":\\"error\\"'
"""How the engine ends an answer that it can't complete, inside a 200."""
_TOO_COMPLEX = SCHEMA_TOO_COMPLEX.encode()
_KEPT = len(_FAILED) - 1
"""Of each piece, because a mark may be cut in two."""


class Relay:
    def __init__(
        self, request: Request, exchange: Exchange, deadlines: Deadlines, on_answer: Callable[[bool | None], None]
    ) -> None:
        """`on_answer` is told, before a byte goes to the client, whether Triton did its part; None: it is the client's fault."""
        self._request = request
        self._exchange = exchange
        self._deadlines = deadlines
        self._on_answer = on_answer
        self._pieces: Pieces | None = None
        self._events = False
        self._outcome: Outcome = "ok"
        self._end = b""
        """Of the last piece."""
        self._limit = deadlines.total
        self._clock = asyncio.timeout(None)

    async def run(self, upstream: Upstream, ending: Ending, *, stream: bool) -> None:
        """Of a unary answer, only the total time is limited: it comes in one piece. Raises ApiError while no byte is sent."""
        try:
            await self._copy(upstream, ending, stream=stream)
        except errors.ApiError as error:
            if self._pieces is None:
                raise
            self._break_off(error)
            raise ConnectionResetError("the answer was broken off") from None
        self._exchange.close(self._outcome)

    async def _copy(self, upstream: Upstream, ending: Ending, *, stream: bool) -> None:
        self._limit = self._deadlines.first_token(monotonic()) if stream else self._deadlines.total
        try:
            async with asyncio.timeout(None) as self._clock:
                with ending.heard_by(lambda _: self._move(monotonic())):
                    await self._pump(upstream, ending, stream=stream)
        except TimeoutError:
            raise (ending.error or self._limit.error()) from None

    async def _pump(self, upstream: Upstream, ending: Ending, *, stream: bool) -> None:
        self._wait_until(self._limit, ending)
        began = monotonic()
        with self._exchange.waiting():
            chunk = await upstream.read()
            reply = await upstream.head()
        if stream:
            self._exchange.record.first_token_seconds = monotonic() - began
        if not chunk:
            raise errors.protocol("an empty answer")
        self._pieces = pieces = self._open(reply, chunk)
        while chunk:
            self._wait_until(self._deadlines.total, ending)
            self._request.connection.write(pieces.frame(chunk))
            await self._request.connection.drained(self._deadlines.total.at + _GRACE_SECONDS)
            self._exchange.sent(chunk)
            self._wait_until(self._deadlines.idle(monotonic()), ending)
            chunk = await upstream.read()
            self._read(chunk)
        self._request.connection.write(pieces.frame(b"", last=True))

    def _wait_until(self, limit: Limit, ending: Ending) -> None:
        self._limit = limit
        if ending.error is None:
            self._move(limit.at)

    def _move(self, at: float) -> None:
        if not self._clock.expired():
            self._clock.reschedule(asyncio.get_running_loop().time() + at - monotonic())

    def _open(self, reply: aiohttp.ClientResponse, chunk: bytes) -> Pieces:
        """Triton's status and type with our headers; a 200 may still hold an error."""
        self._events = reply.content_type == "text/event-stream"
        if reply.status >= 400 or chunk.startswith((b'{"error"', _ERROR_EVENT)):
            self._outcome = "upstream_error"
        elif _REFUSED in chunk[:64]:
            self._outcome = "rejected"
        self._read(chunk)
        self._on_answer(self._verdict(reply.status))
        kind = "text/event-stream; charset=utf-8" if self._events else "application/json"
        return Pieces(self._request, reply.status, common_headers(self._exchange, reply.status, kind))

    def _read(self, chunk: bytes) -> None:
        """How the answer ends, as far as it can be seen without parsing it."""
        seen, self._end = self._end + chunk, chunk[-_KEPT:]
        if self._events and _ERROR_EVENT in seen:
            self._outcome = "upstream_error"
        elif _FAILED in seen:
            self._outcome = "rejected" if _TOO_COMPLEX in seen else "upstream_error"

    def _verdict(self, status: int) -> bool | None:
        if self._outcome == "ok":
            return True
        return None if self._outcome == "rejected" or 400 <= status < 500 else False

    def _break_off(self, error: errors.ApiError) -> None:
        """Without an end: the client must not take what it has for all."""
        self._exchange.fail(error)
        connection = self._request.connection
        if self._pieces is not None and self._events:
            connection.write(self._pieces.frame(sse.frame(errors.triton_body(error.message))))
        connection.leave(_GRACE_SECONDS)

"""Sending an answer as server-sent events: the head with the first text, keep-alives in silence, errors as events.

A stream never ends silently: it ends with [DONE], or with an error event and no [DONE].
"""

import asyncio
from collections.abc import Sequence
from time import monotonic

from aiohttp import web
from aiohttp.http import HttpVersion11

from localmodel.gateway import errors, sse
from localmodel.gateway.answers import ReaderTooSlow, common_headers
from localmodel.gateway.choices import Piece, Source
from localmodel.gateway.exchange import Exchange
from localmodel.gateway.openai_answer import Chunks
from localmodel.gateway.timers import KEEP_ALIVE_SECONDS, Deadlines

_GRACE_SECONDS = 0.5


class StreamAnswer:
    def __init__(self, request: web.BaseRequest, exchange: Exchange, chunks: Chunks, deadlines: Deadlines) -> None:
        self._request = request
        self._exchange = exchange
        self._deadlines = deadlines
        self._chunks = chunks
        self._response = web.StreamResponse()
        self._too_slow = False

    async def run(self, first: Sequence[Piece], source: Source) -> web.StreamResponse:
        headers = {
            **common_headers(self._exchange, 200),
            "content-type": "text/event-stream; charset=utf-8",
            "x-accel-buffering": "no",
        }
        self._response.headers.update(headers)
        if self._request.version < HttpVersion11:
            self._response.force_close()
        left = self._deadlines.total.at - monotonic() + _GRACE_SECONDS
        cut_off = asyncio.get_running_loop().call_later(left, self._cut_off)
        try:
            await self._response.prepare(self._request)
            await self._answer(first, source)
            await self._response.write_eof()
        except (asyncio.CancelledError, ConnectionError):
            if self._too_slow:
                raise ReaderTooSlow from None
            raise
        finally:
            cut_off.cancel()
        return self._response

    def _cut_off(self) -> None:
        """The total timeout is over and the client still has not read what it was sent."""
        self._too_slow = True
        if self._request.transport is not None:
            self._request.transport.abort()

    async def _answer(self, first: Sequence[Piece], source: Source) -> None:
        try:
            await self._relay(first, source)
        except errors.ApiError as error:
            try:
                await self._write(sse.frame(error.body()))
            finally:
                self._exchange.close(error.outcome, error.code)
        else:
            self._exchange.close("ok")

    async def _relay(self, first: Sequence[Piece], source: Source) -> None:
        chunks = self._chunks
        data = chunks.opening()
        pieces = first
        silent_since = monotonic()
        while True:
            for piece in pieces:
                data += chunks.piece(piece)
            if source.finished:
                await self._write(data + chunks.closing(source.usage))
                return
            if data:
                await self._write(data)
                silent_since = monotonic()
            elif monotonic() - silent_since >= KEEP_ALIVE_SECONDS:
                await self._write(sse.KEEP_ALIVE)
                silent_since = monotonic()
            data = b""
            pieces = await source.more(silent_since + KEEP_ALIVE_SECONDS)

    async def _write(self, data: bytes) -> None:
        await self._response.write(data)
        self._exchange.sent(data)

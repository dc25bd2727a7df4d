"""Sending an answer as server-sent events: the head with the first text, keep-alives in silence, errors as events.

A stream never ends silently: it ends with [DONE], or with an error event and no [DONE].
"""

from collections.abc import Sequence
from time import monotonic

from localmodel.gateway import errors, sse
from localmodel.gateway.answers import common_headers
from localmodel.gateway.choices import Source
from localmodel.gateway.exchange import Exchange
from localmodel.gateway.openai_answer import Chunks
from localmodel.gateway.pieces import Piece
from localmodel.gateway.reply import Pieces
from localmodel.gateway.request import Request
from localmodel.gateway.timers import KEEP_ALIVE_SECONDS, Deadlines

_GRACE_SECONDS = 0.5
"""For a client that has not read all when the total timeout is over."""
_EVENTS = "text/event-stream; charset=utf-8"


class StreamAnswer:
    def __init__(self, request: Request, exchange: Exchange, chunks: Chunks, deadlines: Deadlines) -> None:
        self._request = request
        self._connection = request.connection
        self._exchange = exchange
        self._until = deadlines.total.at + _GRACE_SECONDS
        self._chunks = chunks
        self._kept = exchange.keep_pieces(chunks.document)
        headers = common_headers(exchange, 200, _EVENTS)
        headers["x-accel-buffering"] = "no"
        self._pieces = Pieces(request, 200, headers)
        self._said_at = monotonic()

    async def run(self, first: Sequence[Piece], source: Source) -> None:
        """Raises ReaderTooSlow, or ConnectionError if the client has left."""
        try:
            await self._relay(first, source)
        except errors.ApiError as failure:
            error = self._chunks.blame(failure)
            if self._kept is not None:
                self._kept.error = error.document()
            try:
                await self._write(sse.frame(error.body()), last=True)
            finally:
                self._exchange.fail(error)
        else:
            self._exchange.close("ok")

    async def _relay(self, first: Sequence[Piece], source: Source) -> None:
        chunks = self._chunks
        data = chunks.opening()
        said = first
        say = self._say if chunks.plain else None
        while True:
            for piece in said:
                data += chunks.piece(piece)
            if self._kept is not None:
                self._kept.add(said)
            if source.finished:
                if self._kept is not None:
                    self._kept.usage = source.usage
                await self._write(data + chunks.closing(source.usage), last=True)
                return
            if data:
                await self._write(data)
            elif self._connection.writing_paused:
                await self._connection.drained(self._until)
            elif monotonic() - self._said_at >= KEEP_ALIVE_SECONDS:
                await self._write(sse.KEEP_ALIVE)
            data = b""
            said = await source.more(self._said_at + KEEP_ALIVE_SECONDS, say)

    def _say(self, text: str) -> bool:
        """What `_relay` does with most texts, without a task that has to be woken; False: the client has to be waited for."""
        data = self._chunks.text(text)
        self._connection.write(self._pieces.frame(data))
        self._exchange.sent(data)
        if self._kept is not None:
            self._kept.say(text)
        self._said_at = monotonic()
        return not self._connection.writing_paused

    async def _write(self, data: bytes, *, last: bool = False) -> None:
        self._connection.write(self._pieces.frame(data, last=last))
        if self._connection.writing_paused:
            await self._connection.drained(self._until)
        self._exchange.sent(data)
        self._said_at = monotonic()

"""One client connection: aiohttp's parser on a protocol of our own, because a request may cost no more than that.

Every head that was begun ends in an answer, a record or a closed connection: in time, in order, and whatever the client does.
It makes requests out of bytes and hands them to its owner one after another. Nothing in this module knows a route.
"""

import asyncio
from collections import deque
from typing import Any, Protocol

from aiohttp.http import HttpRequestParser, RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.tcp_helpers import tcp_keepalive

from localmodel.gateway import errors
from localmodel.gateway.malformed import HEAD_LIMIT, URL_LIMIT, malformed
from localmodel.gateway.outgoing import Outgoing
from localmodel.gateway.patience import Head, Silence
from localmodel.gateway.request import BrokenBody, Request, skip_body

_READ_BYTES = 64 * 1024
_HEAD_END = b"\r\n\r\n"
_MOST_WAITING = 32
"""Requests sent ahead; then nothing more is read until half of them are answered."""


class Owner(Protocol):
    """The port's side."""

    stopping: bool

    def joined(self, connection: "Connection") -> None: ...

    def left(self, connection: "Connection") -> None: ...

    def unread(self, message: RawRequestMessage | None, client: str | None) -> None:
        """A request whose client left before anybody could look at it."""

    async def answer(self, request: Request, refusal: errors.ApiError | None) -> None:
        """Raises ConnectionError if no more can be said on this connection."""


def _nobody(error: errors.ApiError) -> None:
    """Who hears of a head that is late on a connection that is gone."""


class Connection(Outgoing):
    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._owner = owner
        self._parser: Any = HttpRequestParser(
            self, loop, _READ_BYTES, max_line_size=URL_LIMIT, max_field_size=HEAD_LIMIT, payload_exception=BrokenBody,
            auto_decompress=False, max_msg_queue_size=_MOST_WAITING,
        )  # fmt: skip
        self._waiting: deque[tuple[RawRequestMessage | errors.ApiError, StreamReader]] = deque()
        self._before = b""
        """What may be the beginning of a head's end: the last bytes that came."""
        self._answering = False
        self._closing = False
        """No request is taken any more."""
        self._deaf = False
        """What comes now is thrown away."""
        self._body: StreamReader = EMPTY_PAYLOAD
        """Of the last request whose head is complete."""
        self._last = False
        """No request may follow that one: it asked for another protocol."""
        self._head = Head(self._refuse)
        self._silence: Silence | None = None
        self.task: asyncio.Task[None] | None = None
        """While there is something to answer."""

    @property
    def idle(self) -> bool:
        """Between requests, or before the first, or in the midst of a head."""
        return not self._answering and not self._waiting

    def close(self) -> None:
        """When what is being answered is answered. What the client has not taken of earlier answers is lost."""
        self._closing = True
        if self.transport is not None and self.task is None:
            (self.transport.abort if self.transport.get_write_buffer_size() else self.transport.close)()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        tcp_keepalive(transport)
        self._silence = Silence(lambda: not self.idle, self.close)
        self._owner.joined(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Nothing may lead back here from now on: the memory is to be free at once, not when somebody looks for cycles."""
        super().connection_lost(exc)
        self._deaf = True
        self._head.end()
        if self._silence is not None:
            self._silence.end()
        unread = [message for message, _ in self._waiting]
        self._waiting.clear()
        if self.task is not None:
            self.task.cancel()
        self.task = self._parser = self._silence = None
        self._head = Head(_nobody)
        self._body = EMPTY_PAYLOAD
        for message in unread:
            self._owner.unread(None if isinstance(message, errors.ApiError) else message, self.client)
        self._owner.left(self)

    def eof_received(self) -> None:
        """A half close counts as leaving, while a request is open; an idle connection just closes."""
        if self.transport is not None and not self.idle:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Head by head: the parser forgets what it has read of a piece in which it finds an error. Nothing: it may go on."""
        before = self._before
        if data:
            self._before = data[-3:] if data.endswith((b"\r", b"\n")) else b""
        for _ in range(_MOST_WAITING):
            at = (before + data).find(_HEAD_END)
            end = at + len(_HEAD_END) - len(before)
            if at < 0 or end >= len(data):
                break
            self._take(data[:end])
            data, before = data[end:], b""
        self._take(data)

    def _take(self, data: bytes) -> None:
        if self._deaf or self._closing or (self._last and self._body.is_eof()):
            return
        in_body = not self._body.is_eof()
        try:
            messages = self._parser.feed_data(data)[0]
        except HttpProcessingError as error:
            if in_body and not self._body.is_eof():  # whoever reads it shall hear it, or throws it away after the answer
                self._deaf = True
                self._body.set_exception(BrokenBody(str(error), malformed(error)))
                self._body.feed_eof()
            else:
                self._refuse(malformed(error))
            return
        if messages:
            self._head.end()
            newest, self._body = messages[-1]
            self._last = newest.upgrade or newest.method == "CONNECT"
            self._waiting.extend(messages)
            if len(self._waiting) >= _MOST_WAITING and not self._buffer_paused:
                self._pause_reading_for_buffer()
            self._wake()
        elif not in_body and data and len(self._waiting) < _MOST_WAITING:
            self._head.grow(len(data))

    def _refuse(self, error: errors.ApiError) -> None:
        """Answers a head that can't be understood or never completed, after the answers that precede it."""
        self._head.end()
        self._deaf = True
        self._waiting.append((error, EMPTY_PAYLOAD))
        self._wake()

    def _wake(self) -> None:
        if self.task is None:
            self.task = self._loop.create_task(self._serve())

    async def _serve(self) -> None:
        """Answers what has come, in order. Ends when nothing is left to answer, or with the connection."""
        closing = True
        try:
            while self._waiting and not self._closing:
                await self._serve_next()
            closing = self._closing
        except ConnectionError:
            pass
        finally:
            self._closing = closing
            self._answering = False
            self.task = None
            if self._silence is not None:
                self._silence.begin()
            if self._closing and self.transport is not None:
                self.transport.close()

    async def _serve_next(self) -> None:
        message, body = self._waiting.popleft()
        self._answering = True
        refusal = message if isinstance(message, errors.ApiError) else None
        request = Request(None if isinstance(message, errors.ApiError) else message, body, self)
        self._make_room()
        await self._owner.answer(request, refusal)
        if (refusal is not None or (self._deaf and not self._waiting)) and not self._owner.stopping:
            await self.farewell()
        self._answering = False
        whole = body.is_eof() or (self.transport is not None and await skip_body(body))
        self._closing = self._closing or not whole or not request.keep_alive or (self._deaf and not self._waiting)

    def _make_room(self) -> None:
        self._parser.message_consumed()
        if self._buffer_paused and len(self._waiting) <= _MOST_WAITING // 2:
            self._take(b"")
            if len(self._waiting) < _MOST_WAITING:
                self._resume_reading_for_buffer()

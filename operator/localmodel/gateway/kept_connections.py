"""Short HTTP/1.1 calls to one server on connections that are kept, at a tenth of what a general client costs.

For Triton on loopback: no TLS, no redirects, no cookies, no content codings; the parser is httptools'. A call that meets a
connection which the server has just closed is made again on a new one, so only what may be said twice can be asked here.
"""

import asyncio
from collections.abc import Mapping
from typing import cast
from urllib.parse import urlsplit

import httptools

_HEAD_LIMIT = 64 * 1024
BODY_LIMIT = 4 * 1024 * 1024


class BrokenAnswer(ConnectionError):
    """No HTTP, or the connection ended within the answer."""


class EndlessAnswer(Exception):
    """A body above the limit."""


class _Connection(asyncio.Protocol):
    """One call at a time."""

    def __init__(self) -> None:
        self.calls = 0
        self.heard = False
        """A byte of the current answer has come."""
        self.reusable = False
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._head_bytes = 0
        """-1: the head is complete."""
        self._body: list[bytes] = []
        self._body_bytes = 0

    def ask(self, request: bytes) -> "asyncio.Future[tuple[int, bytes]]":
        assert self._transport is not None
        self.calls += 1
        self.heard = self.reusable = False
        self._head_bytes = self._body_bytes = 0
        self._body = []
        self._parser = httptools.HttpResponseParser(self)
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def fail(self, error: Exception) -> None:
        answer, self._answer = self._answer, None
        self.abort()
        if answer is not None and not answer.done():
            answer.set_exception(error)

    def abort(self) -> None:
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(BrokenAnswer(str(exc) if exc else "the connection was closed"))

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._parser is None:
            self.abort()
            return
        self.heard = True
        if self._head_bytes >= 0:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.fail(BrokenAnswer(f"no HTTP: {error}"))
            return
        if self._head_bytes > _HEAD_LIMIT:
            self.fail(BrokenAnswer("a head that does not end"))
        elif self._body_bytes > BODY_LIMIT:
            self.fail(EndlessAnswer("an answer that does not end"))

    def on_message_begin(self) -> None:
        if self._answer is None:  # more than was asked for: who knows what it belongs to
            self.abort()

    def on_headers_complete(self) -> None:
        self._head_bytes = -1

    def on_body(self, data: bytes) -> None:
        self._body.append(data)
        self._body_bytes += len(data)

    def on_message_complete(self) -> None:
        answer, parser = self._answer, self._parser
        if answer is None or parser is None:
            return
        if parser.get_status_code() < 200:  # such as 100: the real one follows
            self._head_bytes = 0
            return
        self._answer = None
        self.reusable = parser.should_keep_alive()
        if not answer.done():
            answer.set_result((parser.get_status_code(), b"".join(self._body)))


class KeptConnections:
    def __init__(self, url: str) -> None:
        """`url`: http://host:port."""
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._host_line = f"Host: {parts.netloc}\r\n"
        self._idle: list[_Connection] = []
        self._asked: set[_Connection] = set()

    async def post(self, path: str, body: bytes, headers: Mapping[str, str], seconds: float | None) -> tuple[int, bytes]:
        """Status and body. Raises TimeoutError, OSError (no connection, or it broke) or EndlessAnswer."""
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        head = f"POST {path} HTTP/1.1\r\n{self._host_line}{lines}Content-Length: {len(body)}\r\n\r\n"
        request = head.encode("latin-1") + body
        async with asyncio.timeout(seconds):
            connection = self._take_idle()
            if connection is not None:
                try:
                    return await self._call(connection, request)
                except BrokenAnswer:
                    if connection.heard:
                        raise
            _, connection = await asyncio.get_running_loop().create_connection(_Connection, self._host, self._port)
            return await self._call(connection, request)

    def give_up(self) -> None:
        """The calls that are under way: nobody will answer them."""
        for connection in list(self._asked):
            connection.fail(BrokenAnswer("given up"))

    def close(self) -> None:
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    def _take_idle(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable:
                return connection
        return None

    async def _call(self, connection: _Connection, request: bytes) -> tuple[int, bytes]:
        self._asked.add(connection)
        try:
            answer = await connection.ask(request)
        except BaseException:
            connection.abort()
            raise
        finally:
            self._asked.discard(connection)
        if connection.reusable:
            self._idle.append(connection)
        else:
            connection.abort()
        return answer

"""One request to Triton's `generate`, and the slot it runs in, for which no cancel can be sent: it has no id.

Triton notices a closed connection only when it has sent something. So whoever gives up leaves the request running behind:
a unary one to its end, a stream to its first byte; only then is the slot free.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import aiohttp

from localmodel.gateway import errors
from localmodel.gateway.gate import Slot

_SIZE_LIMIT = 64 * 1024 * 1024


class Upstream:
    def __init__(self, posting: "asyncio.Task[aiohttp.ClientResponse]", *, repeatable: bool = False) -> None:
        self._posting = posting
        self._repeatable = repeatable
        self._ended = False
        self._size = 0
        self.answered = False
        """A byte of the body has come."""

    async def head(self) -> aiohttp.ClientResponse:
        """Raises ApiError if there is none."""
        try:
            return await asyncio.shield(self._posting)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._posting.cancelled() or (task is not None and task.cancelling()):
                raise
            self._ended = True
            raise errors.upstream("Its process ended.", resend=self._repeatable) from None
        except aiohttp.ClientConnectorError:
            self._ended = True
            raise errors.upstream("It could not be reached.", resend=True) from None
        except (aiohttp.ClientError, OSError):
            self._ended = True
            raise errors.upstream("The connection broke.", resend=self._repeatable) from None

    async def read(self) -> bytes:
        """The next bytes; empty at the end."""
        reply = await self.head()
        try:
            chunk = await reply.content.readany()
        except (aiohttp.ClientError, OSError):
            self._ended = True
            # aiohttp raises before it hands out what came with the break; the client is to have that first.
            chunk = reply.content._read_nowait(-1)
            if not chunk:
                raise errors.upstream("The connection broke.", resend=self._repeatable) from None
            self.answered = True
            return chunk
        self.answered = self.answered or bool(chunk)
        self._ended = not chunk
        self._size += len(chunk)
        if self._size > _SIZE_LIMIT:
            self._ended = True
            raise errors.protocol("an answer that does not end")
        return chunk

    async def see_out(self, *, stream: bool) -> None:
        """Waits until the engine has ended this, or will at once when the connection closes."""
        with contextlib.suppress(errors.ApiError):
            while not self._ended and not (stream and self.answered):
                await self.read()

    def close(self) -> None:
        """Drops the connection, if the answer is not complete."""
        if not self._posting.done():
            self._posting.cancel()
        elif not self._posting.cancelled() and self._posting.exception() is None:
            self._posting.result().close()


class Route(NamedTuple):
    """Where a request goes and what it says."""

    url: str
    headers: dict[str, str]
    body: bytes
    stream: bool
    repeatable: bool = False
    """It may be sent again after a connection that broke, whatever became of it: who asked has had nothing of the answer."""


class Upstreams:
    """All of them, for the day when the engine dies: Triton leaves its requests open for ever."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._engine = 0
        """Counts the engines that have been served."""
        self._open: set[Upstream] = set()
        self._left: set[asyncio.Task[None]] = set()
        """Those that nobody waits for any more."""

    @asynccontextmanager
    async def open(self, route: Route, slot: Slot) -> AsyncIterator[Upstream]:
        """Takes over the slot: it is released when the engine has ended the request, which may be after this block."""
        engine = self._engine
        upstream = Upstream(asyncio.create_task(self._post(route)), repeatable=route.repeatable)
        self._open.add(upstream)
        try:
            yield upstream
        finally:
            self._open.discard(upstream)
            if engine == self._engine:
                task = asyncio.create_task(upstream.see_out(stream=route.stream))
                self._left.add(task)
                task.add_done_callback(self._left.discard)
                task.add_done_callback(lambda _: self._end(upstream, slot))
            else:
                self._end(upstream, slot)

    def forget(self) -> None:
        """The engine is a new one and runs nothing of what was sent before; who still waits for that hears it."""
        self._engine += 1
        for task in self._left:
            task.cancel()
        for upstream in self._open:
            upstream.close()

    def _end(self, upstream: Upstream, slot: Slot) -> None:
        upstream.close()
        slot.release()

    async def _post(self, route: Route) -> aiohttp.ClientResponse:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=1)
        return await self._session.post(route.url, data=route.body, headers=route.headers, timeout=timeout)

"""One request to Triton's `generate`, and the slot it runs in, for which no cancel can be sent: it has no id.

Triton notices a closed connection only when it has sent something. So whoever gives up leaves the request running behind:
a unary one to its end, a stream to its first byte; only then is the slot free.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import aiohttp

from localmodel.gateway import errors
from localmodel.gateway.gate import Slot

_SIZE_LIMIT = 64 * 1024 * 1024
_SUSPENDED: set[asyncio.Task[None]] = set()
"""Requests that nobody waits for; kept here so that they are not collected."""


class Upstream:
    def __init__(self, posting: "asyncio.Task[aiohttp.ClientResponse]") -> None:
        self._posting = posting
        self._ended = False
        self._size = 0
        self.answered = False
        """A byte of the body has come."""

    async def head(self) -> aiohttp.ClientResponse:
        """Raises ApiError if there is none."""
        try:
            return await asyncio.shield(self._posting)
        except aiohttp.ClientConnectorError:
            self._ended = True
            raise errors.upstream("It could not be reached.", resend=True) from None
        except (aiohttp.ClientError, OSError):
            self._ended = True
            raise errors.upstream("The connection broke.") from None

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
                raise errors.upstream("The connection broke.") from None
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
        try:
            while not self._ended and not (stream and self.answered):
                await self.read()
        except errors.ApiError:
            pass
        finally:
            if self._posting.done() and not self._posting.cancelled() and self._posting.exception() is None:
                self._posting.result().close()


class Route(NamedTuple):
    """Where a request goes and what it says."""

    url: str
    headers: dict[str, str]
    body: bytes
    stream: bool


@asynccontextmanager
async def open_upstream(session: aiohttp.ClientSession, route: Route, slot: Slot) -> AsyncIterator[Upstream]:
    """Takes over the slot: it is released when the engine has ended the request, which may be after this block."""
    upstream = Upstream(asyncio.create_task(_post(session, route)))
    try:
        yield upstream
    finally:
        task = asyncio.create_task(upstream.see_out(stream=route.stream))
        _SUSPENDED.add(task)
        task.add_done_callback(_SUSPENDED.discard)
        task.add_done_callback(lambda _: slot.release())


async def _post(session: aiohttp.ClientSession, route: Route) -> aiohttp.ClientResponse:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=1)
    return await session.post(route.url, data=route.body, headers=route.headers, timeout=timeout)

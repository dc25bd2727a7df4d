"""The writing half of a client connection: bytes go out at once, and only a client that does not read is waited for.

It never reads, and knows no HTTP.
"""

import asyncio
from time import monotonic
from typing import Any

from aiohttp.base_protocol import BaseProtocol

_FAREWELL_SECONDS = 1.0
"""How long a client that is still sending may take to read why it is cut off."""


class ReaderTooSlow(Exception):
    """The client did not take the answer in time; the connection has been cut."""


class Outgoing(BaseProtocol):
    client: str | None = None
    """The address it came from."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.client = str(peer[0] if isinstance(peer, tuple) else peer) if peer else None

    def write(self, data: bytes) -> None:
        """Raises ConnectionResetError if the client has left."""
        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError("the client has left")
        self.transport.write(data)

    async def drained(self, until: float) -> None:
        """Returns when the client has taken most of what was written; at `until` (monotonic seconds) it is cut off.

        Raises ReaderTooSlow, or ConnectionResetError if it has left."""
        if not self._paused:
            return
        try:
            async with asyncio.timeout(until - monotonic()):
                await self._drain_helper()
        except TimeoutError:
            self.abort()
            raise ReaderTooSlow from None

    async def farewell(self) -> None:
        """Closing while the client still sends would be a reset, which takes the unread answer with it."""
        if self.transport is not None:
            self.transport.write_eof()
            await asyncio.sleep(_FAREWELL_SECONDS)

    def abort(self) -> None:
        """What the client has not taken is lost."""
        if self.transport is not None:
            self.transport.abort()

    def leave(self, seconds: float) -> None:
        """Closes when the client has taken what was written, or after so long."""
        if self.transport is not None:
            self._loop.call_later(seconds, self.transport.abort)
            self.transport.close()

"""The HTTP entry of one port: it makes connections, and sees to it that every request ends in an answer or a record.

What comes over a connection is `connection`'s to understand. Nothing in this module knows a route.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from aiohttp.http import HttpVersion10, HttpVersion11, RawRequestMessage

from localmodel.api.gateway import Outcome
from localmodel.gateway import errors, intake
from localmodel.gateway.answers import send_error
from localmodel.gateway.client_headers import DEADLINE
from localmodel.gateway.connection import Connection
from localmodel.gateway.exchange import Exchange
from localmodel.gateway.malformed import HEAD_LIMIT
from localmodel.gateway.outgoing import ReaderTooSlow
from localmodel.gateway.request import NO_HEADERS, Request

log = logging.getLogger("localmodel.gateway.server")

MAX_CONNECTIONS = 4096
"""At more, whoever has been connected longest without a running request has to go; if all run, the newcomer."""
_ONCE = ("authorization", "content-encoding", "inference-header-content-length", DEADLINE)
"""Headers of which a proxy and this server could each believe another one; the parser refuses the rest of them."""
_CLOSING = (408, 413, 431, 501, 505)
"""Where the next request starts is uncertain, or too much would have to be read."""


class Site(Protocol):
    """What answers on one port."""

    def open(self, headers: Mapping[str, str], client: str | None) -> Exchange: ...

    async def respond(self, request: Request, exchange: Exchange) -> None: ...


class Listener:
    """Called, it makes the protocol of a new connection."""

    def __init__(self, site: Site, leaving: Callable[[], bool] = lambda: False) -> None:
        """`leaving`: clients are to go elsewhere, so no connection is kept for a next request."""
        self.site = site
        self.leaving = leaving
        self.stopping = False
        self._connections: dict[Connection, None] = {}
        """In the order in which they came."""

    def __call__(self) -> Connection:
        return Connection(self, asyncio.get_running_loop())

    def joined(self, connection: Connection) -> None:
        self._connections[connection] = None
        if len(self._connections) > MAX_CONNECTIONS:
            goes = next((each for each in self._connections if each.idle), connection)
            self.left(goes)  # at once: it is gone later, and the next newcomer must not count on the same one
            goes.close()

    def left(self, connection: Connection) -> None:
        self._connections.pop(connection, None)

    async def end(self, seconds: float) -> None:
        """Closes all connections; whoever is being answered has so long, and as long again to hear that it is over."""
        self.stopping = True
        for connection in list(self._connections):
            connection.close()
        tasks = {connection.task for connection in self._connections if connection.task is not None}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=seconds)
        for connection in list(self._connections):
            connection.leave(seconds)

    def unread(self, message: RawRequestMessage | None, client: str | None) -> None:
        self.site.open(message.headers if message is not None else NO_HEADERS, client).close(self._left_by)

    @property
    def _left_by(self) -> Outcome:
        return "drained" if self.stopping else "client_closed"

    async def answer(self, request: Request, refusal: errors.ApiError | None) -> None:
        exchange = self.site.open(request.headers, request.connection.client)
        try:
            if refusal is not None:
                raise refusal
            if self.leaving():
                request.keep_alive = False
            _check_head(request)
            await self.site.respond(request, exchange)
        except errors.ApiError as error:
            close = error.status in _CLOSING or request.content.exception() is not None
            await send_error(request, exchange, error, close=close)
        except ReaderTooSlow:
            exchange.close("total_timeout", "total_timeout")
            raise ConnectionResetError("the client does not read") from None
        except (asyncio.CancelledError, ConnectionError):
            if self.stopping and exchange.record.status is None and request.connection.transport is not None:
                await send_error(request, exchange, errors.draining(), close=True)
            exchange.close(self._left_by)
            raise
        except Exception:
            log.exception("request %s failed", exchange.record.request_id)
            if exchange.record.status is not None:
                exchange.close("internal_error", "internal_error")
                raise ConnectionResetError("the answer can't be completed") from None
            await send_error(request, exchange, errors.internal(), close=True)
        finally:
            intake.room.give_back(request.connection)
            exchange.close("client_closed" if exchange.record.status is None else "internal_error")


def _check_head(request: Request) -> None:
    if request.version not in (HttpVersion10, HttpVersion11):
        raise errors.http_not_implemented(505, "This version of HTTP is not spoken here.")
    if request.version == HttpVersion10 and "transfer-encoding" in request.headers:
        raise errors.http_not_implemented(501, "HTTP/1.0 has no transfer encodings.")
    if request.head_bytes > HEAD_LIMIT:
        raise errors.too_large(431, "request head", HEAD_LIMIT)
    headers: Any = request.headers  # a multidict
    for name in _ONCE:
        if len(headers.getall(name, ())) > 1:
            raise errors.bad_request(f"The header '{name}' came more than once. Send it once.", name)

"""One client connection: aiohttp's protocol with its gaps closed.

aiohttp alone never times out an incomplete head, loses what follows a refused upgrade, waits for a body whose framing broke,
and lets a half-closed or never-started request vanish. Here each of these ends in an answer or a record. Nothing in this
module knows a route.
"""

import asyncio
from typing import Any, Protocol

from aiohttp import http_exceptions, web
from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler, RequestPayloadError, _ErrInfo

from localmodel.gateway import errors
from localmodel.gateway.answers import send_error
from localmodel.gateway.exchange import Exchange

HEAD_LIMIT = 32 * 1024
URL_LIMIT = 8 * 1024
HEAD_SECONDS = 10.0
_FAREWELL_SECONDS = 1.0
"""How long a client that is still sending may take to read why it is cut off."""


class Owner(Protocol):
    """The port's side."""

    stopping: bool

    def unread(self, message: RawRequestMessage | None) -> None: ...

    def enter(self, protocol: Any) -> Exchange: ...


class Connection(RequestHandler):
    def __init__(self, owner: Any, **settings: Any) -> None:
        super().__init__(owner, **settings)
        self._owner: Owner = owner
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._body: Any = EMPTY_PAYLOAD
        """Of the last request whose head is complete."""
        self._last = False
        """No request may follow that one: it asked for another protocol."""
        self._deaf = False
        """What comes now is thrown away."""
        self.exchange: Exchange | None = None

    @property
    def idle(self) -> bool:
        """Between requests, or before the first, or in the midst of a head."""
        return not self._request_in_progress and not self._messages

    @property
    def broken(self) -> bool:
        """Nothing more can be read from it."""
        return self._deaf

    def data_received(self, data: bytes) -> None:
        if self._deaf or (self._last and self._body.is_eof()):
            return
        in_body, seen = not self._body.is_eof(), self._request_count
        super().data_received(data)
        if self._request_count != seen:
            self._stop_head_timer()
            self._look_at(*self._messages[-1], in_body)
            self._message_tail = b""
        elif not in_body and data:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT + URL_LIMIT:
                self._refuse(errors.too_large(431, "request head", HEAD_LIMIT))
            elif self._head_timer is None:
                late = errors.body_timeout("request head", HEAD_SECONDS)
                self._head_timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._refuse, late)

    def _look_at(self, message: Any, body: Any, in_body: bool) -> None:
        """The newest message: it may be the last that can be understood."""
        if isinstance(message, RawRequestMessage):
            self._body = body
            self._last = message.upgrade or message.method == "CONNECT"
            return
        self._deaf = True
        if in_body:  # it is the body that broke: whoever reads it shall hear it, or throws it away after the answer
            self._messages.pop()
            self._close = True
            if self.exchange is None or not self.exchange.closed:
                self._body.set_exception(RequestPayloadError(str(message.exc)))
            self._body.feed_eof()

    def eof_received(self) -> None:
        """A half close counts as leaving, while a request is open; an idle connection just closes."""
        if self.transport is not None and not self.idle:
            self.transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_head_timer()
        unread = [message for message, _ in self._messages]
        current = self.exchange
        super().connection_lost(exc)
        for message in unread:
            self._owner.unread(message if isinstance(message, RawRequestMessage) else None)
        if current is not None and not current.entered:
            current.close("client_closed")

    def _refuse(self, error: errors.ApiError) -> None:
        """Answers a head that never completed, after the answers that precede it."""
        self._stop_head_timer()
        self._deaf = True
        self._request_count += 1
        self._messages.append((_ErrInfo(error.status, error, error.message), EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _stop_head_timer(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _make_error_handler(self, err_info: Any) -> Any:
        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            exchange = self._owner.enter(self)
            request._version = HttpVersion11
            error = err_info.exc if isinstance(err_info.exc, errors.ApiError) else malformed(err_info.exc)
            response = await send_error(request, exchange, error, close=True)
            await self._farewell()
            return response

        return handler

    def handle_error(self, request: Any, status: int = 500, exc: BaseException | None = None, message: str | None = None) -> Any:
        """A client that left is no error of ours: nothing to log, and nobody to answer."""
        if isinstance(exc, ConnectionError):
            raise exc
        return super().handle_error(request, status, exc, message)

    async def _farewell(self) -> None:
        """Closing while the client still sends would be a reset, which takes the unread answer with it."""
        if self.transport is not None and not self._owner.stopping:
            self.transport.write_eof()
            await asyncio.sleep(_FAREWELL_SECONDS)


def malformed(error: BaseException) -> errors.ApiError:
    """What the parser disliked, as a status: too long an URL, too large a head, or no HTTP."""
    if isinstance(error, http_exceptions.LineTooLong):
        if error.args[1] == URL_LIMIT:
            return errors.too_large(414, "URL", URL_LIMIT)
        return errors.too_large(431, "request head", HEAD_LIMIT)
    text = str(error)
    if "too many" in text.lower():
        return errors.too_large(431, "request head", HEAD_LIMIT)
    if "Invalid HTTP version" in text or "Pause on PRI" in text:
        return errors.http_not_implemented(505, "This version of HTTP is not spoken here.")
    if "Request has invalid `Transfer-Encoding`" in text:
        return errors.http_not_implemented(501, "This transfer encoding is not understood.")
    return errors.bad_request("This is not a valid HTTP/1.1 request.")

"""One request as handlers see it: the head, the body to be read, and the connection that the answer goes to.

What may be in a head is the parser's to say. Nothing in this module knows a route.
"""

import asyncio
import re
from collections.abc import Mapping
from itertools import chain

from aiohttp.http import HttpVersion, HttpVersion11, RawRequestMessage
from aiohttp.streams import StreamReader

from localmodel.gateway import errors
from localmodel.gateway.api_error import ApiError
from localmodel.gateway.outgoing import Outgoing

NO_HEADERS: Mapping[str, str] = {}
_LINGER_SECONDS = 2.0
_AUTHORITY = re.compile(r"https?://[^/?]*", re.IGNORECASE)


class BrokenBody(Exception):
    """The framing of a request's body is not HTTP."""

    def __init__(self, message: str, answer: ApiError | None = None) -> None:
        super().__init__(message)
        self.answer = answer or errors.bad_request("The request body is not valid HTTP/1.1.")


async def skip_body(body: StreamReader) -> bool:
    """Reads what nobody wants, so that the client gets to read its answer; False if the end did not come soon."""
    try:
        async with asyncio.timeout(_LINGER_SECONDS):
            while await body.readany():
                pass
    except (TimeoutError, BrokenBody):
        return False
    return True


def _path(target: str) -> str:
    """Of the request target's absolute form, too, whatever server it names: it came here (RFC 9112, 3.2.2)."""
    if not target.startswith("/") and (named := _AUTHORITY.match(target)):
        return target[named.end() :].partition("?")[0] or "/"
    return target.partition("?")[0]


class Request:
    __slots__ = ("connection", "content", "head_bytes", "headers", "keep_alive", "method", "path", "version")

    def __init__(self, message: RawRequestMessage | None, content: StreamReader, connection: Outgoing) -> None:
        """Without a message: what came could not be read, and the answer is the connection's last."""
        self.connection = connection
        self.content = content
        self.method = ""
        self.path = ""
        """Up to the question mark, byte for byte as it came."""
        self.version: HttpVersion = HttpVersion11
        self.headers = NO_HEADERS
        """By names in any case."""
        self.head_bytes = 0
        self.keep_alive = False
        """Another request may follow on this connection."""
        if message is not None:
            self.method = message.method
            self.path = _path(message.path or "")  # None of a CONNECT without a target
            self.version = message.version
            self.headers = message.headers
            fields = message.raw_headers
            self.head_bytes = sum(map(len, chain.from_iterable(fields))) + 4 * len(fields)
            self.keep_alive = not (message.should_close or message.upgrade or message.method == "CONNECT")

    def check_method(self, method: str) -> None:
        """Raises 405. What may be had by GET has a head."""
        allowed = ("GET", "HEAD") if method == "GET" else (method,)
        if self.method not in allowed:
            raise errors.method_not_allowed(", ".join(allowed))

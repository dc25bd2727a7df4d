"""An answer as HTTP/1.1 bytes: a head, and a body in one piece or in chunks.

It knows no header's meaning but those that frame a body. It must not wait.
"""

import time
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus

from aiohttp.http import HttpVersion11

from localmodel.gateway.request import Request

_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
_LAST = b"0\r\n\r\n"


class _Date:
    """The time as headers have it, written once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._line = ""

    def line(self) -> str:
        now = int(time.time())
        if now != self._second:
            self._second, self._line = now, f"date: {formatdate(now, usegmt=True)}\r\n"
        return self._line


_date = _Date()


def _head(request: Request, status: int, headers: Mapping[str, str], framing: str) -> bytes:
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if fields.count("\n") != len(headers) or fields.count("\r") != len(headers):
        raise ValueError("a line break in a header")
    first = _LINES.get(status) or f"HTTP/1.1 {status} \r\n"
    keeping = "" if request.keep_alive else "connection: close\r\n"
    if request.keep_alive and request.version < HttpVersion11:
        keeping = "connection: keep-alive\r\n"
    return f"{first}{fields}{framing}{keeping}{_date.line()}\r\n".encode()


def whole(request: Request, status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    """All of it; what must have no body has none."""
    if status == HTTPStatus.NOT_MODIFIED:
        return _head(request, status, headers, "")
    head = _head(request, status, headers, f"content-length: {len(body)}\r\n")
    return head if request.method == "HEAD" else head + body


class Pieces:
    """An answer whose length is not known: its head is in the first piece. To HTTP/1.0, the connection's end is its end."""

    def __init__(self, request: Request, status: int, headers: Mapping[str, str]) -> None:
        self._chunked = request.version >= HttpVersion11
        if not self._chunked:
            request.keep_alive = False
        self._head = _head(request, status, headers, "transfer-encoding: chunked\r\n" if self._chunked else "")

    def frame(self, data: bytes, *, last: bool = False) -> bytes:
        if self._chunked:
            chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            data = chunk + _LAST if last else chunk
        if self._head:
            data, self._head = self._head + data, b""
        return data

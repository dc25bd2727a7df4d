"""However the bytes of a connection are cut into packets: the same requests with the same bodies, and the same refusal."""

import asyncio
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localmodel.gateway import errors
from localmodel.gateway.connection import Connection
from localmodel.gateway.request import BrokenBody, Request

PIECES = (
    b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n",
    b"POST /b HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello",
    b"POST /c HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\n\r\n\r\n\r\n\r\n",
    b"POST /d HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n4\r\n\r\n\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"\r\n",
)
ENDS = (b"", b"no HTTP\r\n\r\n", b"\x00\x01", b"GET / HTTP/1.1\r\nbad header\r\n\r\n", b"GET / HTTP/3.0\r\n\r\n")


class Transport:
    def __init__(self) -> None:
        self.closing = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.closing = True

    abort = close

    def ignore(self, *_: Any) -> None: ...

    write = write_eof = pause_reading = resume_reading = ignore


class Owner:
    stopping = True
    """So that nobody says a long farewell."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def ignore(self, *_: Any) -> None: ...

    joined = left = unread = ignore

    async def answer(self, request: Request, refusal: errors.ApiError | None) -> None:
        if refusal is not None:
            self.seen.append(refusal.status)
            return
        body = bytearray()
        try:
            while chunk := await request.content.readany():
                body += chunk
        except BrokenBody as broken:
            self.seen.append((request.path, broken.answer.status))
            return
        self.seen.append((request.path, bytes(body)))


async def requests_of(packets: list[bytes]) -> list[Any]:
    owner = Owner()
    connection = Connection(owner, asyncio.get_running_loop())
    connection.connection_made(Transport())
    for packet in packets:
        connection.data_received(packet)
        await asyncio.sleep(0)
    for _ in range(100):
        await asyncio.sleep(0)
    connection.connection_lost(None)
    return owner.seen


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=6), st.sampled_from(ENDS), st.lists(st.floats(0, 1), max_size=8))
def test_packets_make_no_difference(pieces: list[bytes], end: bytes, cuts: list[float]) -> None:
    data = b"".join(pieces) + end
    places = sorted({0, len(data), *(int(cut * len(data)) for cut in cuts)})
    packets = [data[start:stop] for start, stop in pairwise(places)]
    whole = asyncio.run(requests_of([data]))
    assert asyncio.run(requests_of(packets)) == whole
    assert [seen[0] for seen in whole if isinstance(seen, tuple)] == [
        piece.split()[1].decode() for piece in pieces if piece.strip()
    ]

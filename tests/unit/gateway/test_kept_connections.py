"""Whatever the other end sends, a call has one answer or one error, and no connection carries a rest of the last call."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from localmodel.gateway.kept_connections import BrokenAnswer, EndlessAnswer, KeptConnections

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
Answer = Callable[[asyncio.StreamWriter, int], Awaitable[None]]


class Server:
    """Reads one request after the other; `answer` gets the number of each, over all connections."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.connections = 0
        self.requests: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                await self._answer(writer, len(self.requests))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[tuple[Server, KeptConnections]]:
    server = Server(answer)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    calls = KeptConnections(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    try:
        yield server, calls
    finally:
        calls.close()
        listener.close()


def ask(calls: KeptConnections, seconds: float = 10) -> Awaitable[tuple[int, bytes]]:
    return calls.post("/x", b"{}", {"traceparent": "t"}, seconds)


async def send(writer: asyncio.StreamWriter, number: int) -> None:
    writer.write(OK)


async def test_one_connection_for_calls_in_a_row_and_more_for_calls_at_once() -> None:
    async with serving(send) as (server, calls):
        for _ in range(3):
            assert await ask(calls) == (200, b"hi")
        assert server.connections == 1
        assert b"traceparent: t\r\n" in server.requests[0] and server.requests[0].endswith(b"\r\n\r\n{}")
        await asyncio.gather(*(ask(calls) for _ in range(4)))
        assert server.connections == 4


async def test_calls_that_nobody_will_answer_are_given_up() -> None:
    async def once(writer: asyncio.StreamWriter, number: int) -> None:
        if number in (1, 4):
            writer.write(OK)

    async with serving(once) as (server, calls):
        await ask(calls)
        kept, new = asyncio.ensure_future(ask(calls)), asyncio.ensure_future(ask(calls))
        while len(server.requests) < 3:  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.01)
        calls.give_up()
        with pytest.raises(BrokenAnswer):
            await asyncio.wait_for(new, 5)
        assert await asyncio.wait_for(kept, 5) == (200, b"hi"), "that of a kept connection is asked again at once"


@pytest.mark.parametrize("piece", [1, 7, 1000])
async def test_answers_in_pieces_and_in_chunks(piece: int) -> None:
    answer = b"HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"

    async def trickle(writer: asyncio.StreamWriter, number: int) -> None:
        for at in range(0, len(answer), piece):
            writer.write(answer[at : at + piece])
            await asyncio.sleep(0)

    async with serving(trickle) as (server, calls):
        for _ in range(2):
            assert await ask(calls) == (400, b"abcde")
        assert server.connections == 1


async def test_a_connection_that_was_closed_meanwhile_costs_no_call() -> None:
    async def leave(writer: asyncio.StreamWriter, number: int) -> None:
        if number == 2:
            writer.transport.abort()
        else:
            writer.write(OK)

    async with serving(leave) as (server, calls):
        for _ in range(2):
            assert await ask(calls) == (200, b"hi")
        assert (server.connections, len(server.requests)) == (2, 3)


async def test_what_breaks_on_a_new_connection_or_within_an_answer_is_told() -> None:
    async def half(writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(OK if number == 1 else OK[:-1])
        if number > 1:
            writer.close()

    async with serving(half) as (server, calls):
        assert await ask(calls) == (200, b"hi")
        for _ in range(2):
            with pytest.raises(BrokenAnswer):
                await ask(calls)
        assert len(server.requests) == 3


@pytest.mark.parametrize("rest", [b"x", OK, OK[:20], b"\r\n"])
async def test_more_than_was_asked_for_is_no_part_of_the_next_answer(rest: bytes) -> None:
    async def chatter(writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(OK.replace(b"hi", b"%02d" % number) + rest)

    async with serving(chatter) as (_, calls):
        for number in range(1, 4):
            assert await ask(calls) == (200, b"%02d" % number)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"what?\r\n\r\n", BrokenAnswer),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nhi", BrokenAnswer),
        (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 100_000, BrokenAnswer),
        (b"HTTP/1.1 200 OK\r\n" + b"x: a\r\n" * 20_000, BrokenAnswer),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n" + b"a" * 5_000_000, EndlessAnswer),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nhi", BrokenAnswer),
    ],
)
async def test_no_answer_at_all(data: bytes, error: type[Exception]) -> None:
    async def misbehave(writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(data)

    async with serving(misbehave) as (_, calls):
        with pytest.raises(error):
            await ask(calls)


async def test_silence_and_nobody_there() -> None:
    async def hang(writer: asyncio.StreamWriter, number: int) -> None:
        await asyncio.sleep(0.3)
        writer.write(OK)

    async with serving(hang) as (server, calls):
        with pytest.raises(TimeoutError):
            await ask(calls, 0.1)
        assert await ask(calls) == (200, b"hi"), "and not the late answer to the first"
        assert server.connections == 2
    with pytest.raises(OSError):
        await ask(calls)

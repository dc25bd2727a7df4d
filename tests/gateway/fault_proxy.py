"""Stands between the gateway and the scripted Triton and breaks the answers of one operation on the level of bytes."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable

from localmodel.api.channel import REQUEST

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
Fault = Callable[[asyncio.StreamWriter], Awaitable[None]]


async def forever(writer: asyncio.StreamWriter, data: bytes) -> None:
    while True:
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(0.001)


async def reset(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def close(writer: asyncio.StreamWriter) -> None:
    pass


async def silence(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def no_http(writer: asyncio.StreamWriter) -> None:
    writer.write(b"what?\r\n\r\n")


async def endless_header(writer: asyncio.StreamWriter) -> None:
    writer.write(OK + b"x-a: ")
    await forever(writer, b"a" * 65536)


async def endless_headers(writer: asyncio.StreamWriter) -> None:
    writer.write(OK)
    await forever(writer, b"x-a: b\r\n" * 4096)


async def endless_body(writer: asyncio.StreamWriter) -> None:
    writer.write(OK + b"content-length: 99999999999\r\n\r\n" + b'data: {"RESPONSE": "')
    await forever(writer, b"a" * 65536)


async def slow_by_byte(writer: asyncio.StreamWriter) -> None:
    for byte in OK + b"content-length: 1000\r\n\r\n" + b" " * 1000:
        writer.write(bytes([byte]))
        await asyncio.sleep(0.02)
    await asyncio.Event().wait()


async def cut_short(writer: asyncio.StreamWriter) -> None:
    writer.write(OK + b'content-length: 1000\r\n\r\n{"RESPONSE": ')


async def body(writer: asyncio.StreamWriter, content: bytes) -> None:
    writer.write(OK + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(content) + content)


async def lie(writer: asyncio.StreamWriter) -> None:
    await body(writer, b'{"error": "out of luck"}')


async def bad_utf8(writer: asyncio.StreamWriter) -> None:
    await body(writer, b'data: {"RESPONSE": "[1, 0, false, [[\\"s1\\", \\"\xff\xfe\xe6\\", 1, null, null, null]]]"}\n\n')


async def empty(writer: asyncio.StreamWriter) -> None:
    await body(writer, b"")


class FaultProxy:
    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self._target = target
        self.faults: dict[str, Fault] = {}
        """By operation of the channel."""
        self.broken = 0
        """Answers broken so far."""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def break_connections(self) -> None:
        """Ends what is open now, so that the next connection meets the faults."""
        current = list(self._tasks)
        for task in current:
            task.cancel()
        await asyncio.gather(*current, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request a connection."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        content = await reader.readexactly(int(length[0])) if length else b""
        fault = self.faults.get(operation(content))
        if fault is not None:
            self.broken += 1
            await fault(writer)
            return
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            upstream.write(head.replace(b"\r\n", b"\r\nconnection: close\r\n", 1) + content)
            while chunk := await upstream_reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        finally:
            upstream.close()


def operation(content: bytes) -> str:
    """Of a request of the channel, else empty."""
    try:
        return str(json.loads(json.loads(content)[REQUEST])["op"])
    except (ValueError, LookupError, TypeError):
        return ""

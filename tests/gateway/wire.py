"""Raw HTTP over a socket, for what no client library sends."""

import asyncio
import json
from typing import Any, NamedTuple

from gateway.conftest import GatewayProcess


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: Any


async def connect(gateway: GatewayProcess) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = gateway.url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


async def converse(gateway: GatewayProcess, data: bytes) -> bytes:
    """Sends bytes, reads until the gateway closes."""
    reader, writer = await connect(gateway)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), 60)
    finally:
        writer.close()


async def exchange(gateway: GatewayProcess, data: bytes) -> tuple[int, dict[str, str], Any]:
    """Status, headers and the JSON body of the one answer."""
    return split_answer(await converse(gateway, data))


def split_answer(raw: bytes) -> tuple[int, dict[str, str], Any]:
    head, _, body = raw.partition(b"\r\n\r\n")
    return *_parse_head(head), json.loads(body)


def answers(raw: bytes) -> list[Answer]:
    """Pipelined JSON answers, each with its content-length."""
    found = []
    while raw:
        head, _, raw = raw.partition(b"\r\n\r\n")
        status, headers = _parse_head(head)
        size = int(headers["content-length"])
        assert len(raw) >= size, "an answer cut short"
        found.append(Answer(status, headers, json.loads(raw[:size])))
        raw = raw[size:]
    return found


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines)


def request(path: str, body: bytes, *extra: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: localhost", "content-type: application/json", f"content-length: {len(body)}", *extra]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chat_bytes(fields: dict[str, Any]) -> bytes:
    return request("/v1/chat/completions", json.dumps(fields).encode())

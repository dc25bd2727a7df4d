"""Raw HTTP over a socket, for what no client library sends."""

import asyncio
import json
from typing import Any

from gateway.conftest import GatewayProcess


async def connect(gateway: GatewayProcess) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = gateway.url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


async def exchange(gateway: GatewayProcess, data: bytes) -> tuple[int, dict[str, str], Any]:
    """Sends bytes, reads until the gateway closes; status, headers and the JSON body."""
    reader, writer = await connect(gateway)
    writer.write(data)
    try:
        return split_answer(await asyncio.wait_for(reader.read(), 20))
    finally:
        writer.close()


def split_answer(raw: bytes) -> tuple[int, dict[str, str], Any]:
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, json.loads(body)


def request(path: str, body: bytes, *extra: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: x", "content-type: application/json", f"content-length: {len(body)}", *extra]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chat_bytes(fields: dict[str, Any]) -> bytes:
    return request("/v1/chat/completions", json.dumps(fields).encode())

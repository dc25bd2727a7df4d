"""Clients of one model that answers many streams at once: of the gateway, and of Triton's channel without a gateway.

Both note when tokens came; what that means is `chain_rates`'.
"""

import asyncio
import itertools
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp

from bench.chain_rates import Stream
from localmodel.gateway.kept_connections import KeptConnections
from localmodel.gateway.wire import parse_batch

_USAGE = re.compile(rb'"completion_tokens": ?(\d+)')
_TEXT = b'"text":'


async def ask_gateway(port: int, prompt: str | list[int], answer: int, leave_after: float = 0, **more: Any) -> Stream:
    """One streamed completion; leaves after so many seconds unless 0. What went wrong is in `error`."""
    stream = Stream(len(prompt))
    fields = {"prompt": prompt, "max_tokens": answer, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    body = json.dumps({**fields, **more}).encode()
    head = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n"
    stream.asked = monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
    try:
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        async with asyncio.timeout(leave_after or 300):
            await _read(reader, stream)
    except (TimeoutError, ConnectionError) as error:
        stream.error = repr(error)
    finally:
        writer.close()
    return stream


async def _read(reader: asyncio.StreamReader, stream: Stream) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in head.partition(b"\r\n")[0]:
        stream.error = (head + await reader.read(2000)).decode()
        return
    tail = last = b""
    while b"data: [DONE]" not in last and (data := await reader.read(2**20)):
        now = monotonic()
        if found := (tail + data).count(_TEXT):
            stream.events.append((now, found))
        tail = (tail + data)[1 - len(_TEXT) :]
        last = (last + data)[-4096:]
    if b'"error":' in last:
        stream.error = last.decode(errors="replace")
    usage = _USAGE.search(last)
    _scale(stream, int(usage[1]) if usage else 0)


def _scale(stream: Stream, tokens: int) -> None:
    """An event may hold several tokens (a late reader) or none (the last one says only why it ended)."""
    events = sum(count for _, count in stream.events)
    if tokens and events and events != tokens:
        stream.events = [(at, count * tokens / events) for at, count in stream.events]


@dataclass
class _Waiting:
    stream: Stream
    first_only: bool
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Channel:
    """As little of the gateway's end as the measurement needs."""

    def __init__(self, triton_port: int, token_file: Path, session: aiohttp.ClientSession) -> None:
        self._url, self._path = f"http://127.0.0.1:{triton_port}", "/v2/models/llm"
        self._calls = KeptConnections(self._url)
        self._token = token_file.read_text().strip()
        self._session = session
        self._instance = f"bench-{id(self)}"
        self._names = itertools.count()
        self._waiting: dict[str, _Waiting] = {}
        self._reading: asyncio.Task[None] | None = None
        self._open = asyncio.Event()

    async def __aenter__(self) -> "Channel":
        self._reading = asyncio.create_task(self._read())
        await asyncio.wait_for(self._open.wait(), 30)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._reading:
            self._reading.cancel()

    async def ask(self, prompts: list[list[int]], answer: int, first_only: bool = False) -> list[Stream]:
        """All prompts in one submit; returns at their end, or with `first_only` once each has a token, and cancels them."""
        sampling = {"max_tokens": answer, "temperature": 0}
        names = [f"s{next(self._names)}" for _ in prompts]
        new = [{"id": name, "prompt": ids, "sampling": sampling} for name, ids in zip(names, prompts, strict=True)]
        waiting = [_Waiting(Stream(len(ids), asked=monotonic()), first_only) for ids in prompts]
        self._waiting.update(zip(names, waiting, strict=True))
        reply = await self._post(op="submit", instance=self._instance, epoch=1, sequences=new)
        assert len(reply["accepted"]) == len(prompts), reply
        await asyncio.wait_for(asyncio.gather(*(each.done.wait() for each in waiting)), 300)
        if first_only:
            await self.cancel(names)
        for name in names:
            del self._waiting[name]
        return [each.stream for each in waiting]

    async def cancel(self, names: list[str]) -> None:
        await self._post(op="cancel", instance=self._instance, ids=names)

    def asked(self) -> list[str]:
        """Names of all that are not at their end."""
        return list(self._waiting)

    async def status(self) -> dict[str, Any]:
        return await self._post(op="status")

    async def _post(self, **fields: Any) -> dict[str, Any]:
        body = json.dumps(self._envelope(**fields)).encode()
        _, reply = await self._calls.post(f"{self._path}/generate", body, {"content-type": "application/json"}, 300)
        return dict(json.loads(json.loads(reply)["RESPONSE"]))

    def _envelope(self, **fields: Any) -> dict[str, str]:
        return {"REQUEST": json.dumps({"token": self._token, **fields})}

    async def _read(self) -> None:
        events = self._envelope(op="events", instance=self._instance, epoch=1)
        async with self._session.post(f"{self._url}{self._path}/generate_stream", json=events) as reply:
            rest = b""
            async for chunk in reply.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                now = monotonic()
                for line in lines:
                    if line.startswith(b"data: "):
                        self._take(line[6:], now)

    def _take(self, payload: bytes, now: float) -> None:
        self._open.set()
        for event in parse_batch(payload).events:
            waiting = self._waiting.get(event.id)
            if waiting is None:
                continue
            if event.tokens:
                waiting.stream.events.append((now, event.tokens))
            if event.finish_reason or waiting.first_only:
                waiting.done.set()

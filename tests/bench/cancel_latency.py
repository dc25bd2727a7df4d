"""From a client's leaving to the engine's stopping: how long does a sequence run for nobody?

    PYTHONPATH=operator:tests:hack python -m bench.cancel_latency [--count 100] [--streams 4]

The real gateway, Triton and model. So many streams run; one client leaves (close, half close and reset in turns) and the engine
is asked every 2 ms how many sequences it still runs; its step in progress has to end first, so the time of one step is printed
beside it. Nothing is asserted.
"""

import argparse
import asyncio
import json
import socket
import statistics
from time import monotonic

import aiohttp

from bench.cancels import _LINGER, PATIENCE, Soak
from bench.standing import Standing, standing
from gateway.conftest import eventually
from gateway.test_real_triton import QUESTION
from gateway.wire import request

KINDS = ("close", "half_close", "reset")


class Watch:
    def __init__(self, parts: Standing, session: aiohttp.ClientSession) -> None:
        self._parts = parts
        self._session = session

    async def running(self) -> int:
        """As the engine says, past the gateway."""
        inner = json.dumps({"op": "status", "token": self._parts.triton.token.read_text().strip()})
        url = f"http://127.0.0.1:{self._parts.triton.port}/v2/models/llm/generate"
        async with self._session.post(url, json={"REQUEST": inner}) as reply:
            return int(json.loads((await reply.json(content_type=None))["RESPONSE"])["running"])

    async def until(self, count: int) -> None:
        while await self.running() != count:  # noqa: ASYNC110 - the engine tells nobody
            await asyncio.sleep(0.002)

    async def begin(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self._parts.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=2**20)
        fields = {
            "messages": QUESTION,
            "max_tokens": 400,
            "stream": True,
            "logit_bias": {"2": -100, "0": -100},
        }
        writer.write(request("/v1/chat/completions", json.dumps(fields).encode()))
        await asyncio.wait_for(reader.readuntil(b'"content": "'), PATIENCE)
        return reader, writer


async def step_seconds(reader: asyncio.StreamReader, steps: int = 20) -> float:
    began = monotonic()
    for _ in range(steps):
        await reader.readuntil(b'"content": "')
    return (monotonic() - began) / steps


def leave(writer: asyncio.StreamWriter, kind: str) -> None:
    if kind == "half_close":
        writer.write_eof()
        return
    if kind == "reset":
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
    writer.transport.abort()


async def main(count: int, streams: int) -> None:
    took: dict[str, list[float]] = {kind: [] for kind in KINDS}
    steps = []
    async with standing() as parts, aiohttp.ClientSession() as session:
        soak = Soak(parts.url, parts.admin, session, parts.gateway, parts.triton.pid)
        await eventually(soak.ready, PATIENCE)
        watch = Watch(parts, session)
        for number in range(count):
            kind = KINDS[number % len(KINDS)]
            open_streams = [await watch.begin() for _ in range(streams)]
            steps.append(await step_seconds(open_streams[0][0]))
            await watch.until(streams)
            began = monotonic()
            leave(open_streams[-1][1], kind)
            await watch.until(streams - 1)
            took[kind].append(monotonic() - began)
            for _, writer in open_streams:
                writer.close()
            await watch.until(0)
    print(f"one step of {streams} streams: {statistics.median(steps) * 1000:.1f} ms")
    for kind, values in took.items():
        ordered = sorted(values)
        print(f"{kind:10} {len(values)} times: p50 {statistics.median(values) * 1000:.1f} ms, "
              f"p90 {ordered[int(len(ordered) * 0.9)] * 1000:.1f} ms, longest {ordered[-1] * 1000:.1f} ms")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--streams", type=int, default=4)
    options = parser.parse_args()
    asyncio.run(main(options.count, options.streams))

"""Tokens per second of the event stream: the engine with a step that costs nothing, in the real Triton, without a gateway.

    PYTHONPATH=operator:tests:hack python -m bench.event_stream [--sequences 256] [--submits 500] [--seconds 10] [--step 0.001]

Two runs: the stream alone, and with so many submits (of one token each) a second beside it. Printed are tokens per second, the
gaps between two events, and processor time per token. The reader only counts. The baseline is Triton's own form: one response
for each token and request (`python -m bench.gateway_triton` has it end to end).
"""

import argparse
import asyncio
import itertools
import json
import os
import re
import statistics
import tempfile
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp

import weights
from bench.cancels import shorten
from bench.gateway_parts import Part, machine
from gateway.conftest import ROOT, eventually
from gateway.test_real_triton import RealTriton

WINDOW = 1024
PROMPT = list(range(1000, 1016))
_ROW = re.compile(rb'\[\\"[a-z]')
"""A row begins with the sequence's name, inside of a JSON text."""


class Channel:
    """As little of the gateway's end as the measurement needs."""

    def __init__(self, triton: RealTriton, session: aiohttp.ClientSession) -> None:
        self._url = f"http://127.0.0.1:{triton.port}/v2"
        self._token = triton.token
        self._session = session
        self._names = itertools.count()
        self._instance = f"bench-{id(self)}"
        self.refused = 0
        self.tokens = 0
        self.events: list[float] = []

    async def _ask(self, **fields: Any) -> dict[str, Any]:
        async with self._session.post(f"{self._url}/models/llm/generate", json=self._envelope(**fields)) as reply:
            return dict(json.loads((await reply.json(content_type=None))["RESPONSE"]))

    def _envelope(self, **fields: Any) -> dict[str, str]:
        return {"REQUEST": json.dumps({"token": self._token.read_text().strip(), **fields})}

    async def load(self) -> bool:
        try:
            async with self._session.post(f"{self._url}/repository/models/llm/load") as reply:
                return reply.status == 200
        except aiohttp.ClientError:
            return False

    async def submit(self, count: int, tokens: int) -> int:
        """How many were accepted."""
        sampling = {"max_tokens": tokens, "temperature": 0, "ignore_eos": True}
        new = [{"id": f"s{next(self._names)}", "prompt": PROMPT, "sampling": sampling} for _ in range(count)]
        accepted = (await self._ask(op="submit", instance=self._instance, epoch=1, sequences=new)).get("accepted", [])
        self.refused += count - len(accepted)
        return len(accepted)

    async def read(self) -> None:
        events = self._envelope(op="events", instance=self._instance, epoch=1)
        async with self._session.post(f"{self._url}/models/llm/generate_stream", json=events) as reply:
            rest = b""
            async for chunk in reply.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if rows := len(_ROW.findall(line)):
                        self.tokens += rows
                        self.events.append(monotonic())


async def measure(channel: Channel, triton: Part, sequences: int, submits: int, seconds: float) -> None:
    running = asyncio.create_task(keep_running(channel, sequences))
    beside = asyncio.create_task(keep_submitting(channel, submits))
    await asyncio.sleep(2)
    channel.events.clear()
    before, spent, began = channel.tokens, triton.cpu(), monotonic()
    await asyncio.sleep(seconds)
    tokens, took, spent = channel.tokens - before, monotonic() - began, triton.cpu() - spent
    gaps = sorted(later - earlier for earlier, later in itertools.pairwise(channel.events))
    for task in (running, beside):
        task.cancel()
    print(
        f"{sequences} sequences, {submits} submits a second beside: {tokens / took:,.0f} tokens/s, {len(gaps) / took:.0f} events"
    )
    print(f"    gap p50 {statistics.median(gaps) * 1000:.1f} ms, p99 {gaps[int(len(gaps) * 0.99)] * 1000:.1f} ms", end="; ")
    print(f"processor time {spent / tokens * 1e6:.2f} us a token, {spent / took:.2f} cores; {channel.refused} submits refused")


async def keep_running(channel: Channel, sequences: int) -> None:
    """At the start all, then what has ended."""
    length = WINDOW - len(PROMPT)
    await channel.submit(sequences, length)
    made = channel.tokens
    while True:
        await asyncio.sleep(0.02)
        ended = (channel.tokens - made) // length
        if ended:
            made += ended * length
            await channel.submit(ended, length)


async def keep_submitting(channel: Channel, rate: int) -> None:
    due = monotonic()
    waiting: set[asyncio.Task[int]] = set()
    while rate:
        due += 1 / rate
        if (rest := due - monotonic()) > 0:
            await asyncio.sleep(rest)
        waiting.add(task := asyncio.create_task(channel.submit(1, 1)))
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        waiting = {task for task in waiting if not task.done()}


async def main(options: argparse.Namespace) -> None:
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        model = shorten(weights.make(weights.default_destination()), 1, Path(name) / "model")
        triton = RealTriton(Path(name), model, WINDOW)
        version = Path(name) / "repository" / "llm" / "1"
        (version / "model.py").write_bytes((ROOT / "tests" / "bench" / "fake_step" / "model.py").read_bytes())
        config = json.loads((version / "model.json").read_text())
        (version / "model.json").write_text(json.dumps({**config, "max_batch_size": options.sequences + 8}))
        os.environ["FAKE_STEP_SECONDS"] = str(options.step)
        triton.start()
        try:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
                await eventually(Channel(triton, session).load, 180)
                for submits in (0, options.submits):
                    channel = Channel(triton, session)
                    reading = asyncio.create_task(channel.read())
                    await asyncio.sleep(0.5)
                    await measure(channel, Part("", triton.pid), options.sequences, submits, options.seconds)
                    reading.cancel()
                    await asyncio.sleep(4)
        finally:
            triton.kill()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=256)
    parser.add_argument("--submits", type=int, default=500, help="a second")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--step", type=float, default=0.0, help="seconds")
    asyncio.run(main(parser.parse_args()))

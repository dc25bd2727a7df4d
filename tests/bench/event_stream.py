"""Tokens per second of the event stream: the engine with a step that costs nothing, in the real Triton, without a gateway.

    PYTHONPATH=operator:tests:hack python -m bench.event_stream [--sequences 256] [--submits 500] [--step 0.001] [--core]
        [--realtime]

Two runs: the stream alone, and with so many submits (of one token each) a second beside it. Printed are tokens per second, the
gaps between two events, and processor time per token: of the engine's process, of Triton's server, and of this one, which
reads as the gateway does and sends the submits. They share two cores, or with `--core` one. The baseline is Triton's own form:
one response for each token and request (`python -m bench.gateway_triton` has it end to end); of the gaps it is a process beside
them that only sleeps for a step, again and again: what that is late by, is the machine's. With `--realtime` all that is measured
goes before other work on the machine.
"""

import argparse
import asyncio
import gc
import itertools
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, process_time
from typing import Any

import aiohttp

import weights
from bench.bare_loop import describe_gaps, go_first, measure_bare_loop
from bench.gateway_parts import Part
from bench.rounds import machine
from bench.standing import shorten
from gateway.conftest import ROOT, eventually
from gateway.test_real_triton import RealTriton
from localmodel.gateway import sse
from localmodel.gateway.kept_connections import KeptConnections
from localmodel.gateway.wire import parse_batch

WINDOW = 1024
PROMPT = list(range(1000, 1016))
SAMPLING = {"temperature": 0, "ignore_eos": True}
LENGTH = WINDOW - len(PROMPT)


class Channel:
    """As little of the gateway's end as the measurement needs."""

    def __init__(self, triton: RealTriton, session: aiohttp.ClientSession) -> None:
        self._url = f"http://127.0.0.1:{triton.port}"
        self._calls = KeptConnections(self._url)
        self._token = triton.token
        self._session = session
        self._names = itertools.count()
        self._instance = f"bench-{id(self)}"
        self.refused = 0
        self.tokens = 0
        self.ended = 0
        """Long sequences."""
        self.events: list[float] = []
        """When news of long ones came: first tokens may come by themselves, ahead of the rest of their step."""

    async def _ask(self, **fields: Any) -> dict[str, Any]:
        body = json.dumps(self._envelope(**fields)).encode()
        _, answer = await self._calls.post("/v2/models/llm/generate", body, {"content-type": "application/json"}, 10)
        return dict(json.loads(json.loads(answer)["RESPONSE"]))

    def _envelope(self, **fields: Any) -> dict[str, str]:
        return {"REQUEST": json.dumps({"token": self._token.read_text().strip(), **fields})}

    async def load(self) -> bool:
        try:
            async with self._session.post(f"{self._url}/v2/repository/models/llm/load") as reply:
                return reply.status == 200
        except aiohttp.ClientError:
            return False

    async def submit(self, kind: str, lengths: Sequence[int]) -> None:
        new = [
            {"id": f"{kind}{next(self._names)}", "prompt": PROMPT, "sampling": {**SAMPLING, "max_tokens": length}}
            for length in lengths
        ]
        accepted = (await self._ask(op="submit", instance=self._instance, epoch=1, sequences=new)).get("accepted", [])
        self.refused += len(lengths) - len(accepted)

    async def read(self) -> None:
        events = self._envelope(op="events", instance=self._instance, epoch=1)
        async with self._session.post(f"{self._url}/v2/models/llm/generate_stream", json=events) as reply:
            decoder = sse.Decoder()
            async for chunk in reply.content.iter_any():
                for payload in decoder.feed(chunk):
                    if events := parse_batch(payload).events:
                        if any(event.id.startswith("long") for event in events):
                            self.events.append(monotonic())
                        self.tokens += sum(event.tokens for event in events)
                        self.ended += sum(event.finish_reason is not None and event.id.startswith("long") for event in events)


async def measure(channel: Channel, triton: RealTriton, sequences: int, submits: int, seconds: float, step: float) -> None:
    def spent() -> list[float]:
        engine = sum(Part("", pid).cpu() for pid in triton.stubs())
        return [engine, Part("", triton.pid).cpu() - engine, process_time()]

    running = asyncio.create_task(keep_running(channel, sequences))
    beside = asyncio.create_task(keep_submitting(channel, submits))
    await asyncio.sleep(2)
    channel.events.clear()
    tokens, before, began = channel.tokens, spent(), monotonic()
    bare = asyncio.create_task(measure_bare_loop(step, seconds))
    await asyncio.sleep(seconds)
    took, parts = monotonic() - began, [now - earlier for earlier, now in zip(before, spent(), strict=True)]
    tokens = channel.tokens - tokens
    times = channel.events.copy()
    for task in (running, beside):
        task.cancel()
    print(f"{sequences} sequences, {submits} submits a second beside: {tokens / took:,.0f} tokens/s", end=", ")
    print(f"{len(times) / took:.0f} events; {channel.refused} submits refused")
    print(f"    gap {describe_gaps(times)}; of a bare loop {describe_gaps(await bare)}; us a token and cores:", end=" ")
    shares = zip(("engine", "server", "reader"), parts, strict=True)
    print(", ".join(f"{part} {each / tokens * 1e6:.2f} ({each / took:.2f})" for part, each in shares))


async def keep_running(channel: Channel, sequences: int) -> None:
    """At the start all, which end one after another, then what has ended."""
    for begin in range(0, sequences, 256):
        await channel.submit("long", [LENGTH * (number + 1) // sequences for number in range(begin, min(sequences, begin + 256))])
    begun = 0
    while True:
        await asyncio.sleep(0.005)
        if ended := channel.ended - begun:
            begun += ended
            await channel.submit("long", [LENGTH] * ended)


async def keep_submitting(channel: Channel, rate: int) -> None:
    due = monotonic()
    waiting: set[asyncio.Task[None]] = set()
    while rate:
        due += 1 / rate
        if (rest := due - monotonic()) > 0:
            await asyncio.sleep(rest)
        waiting.add(task := asyncio.create_task(channel.submit("short", [1])))
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        waiting = {task for task in waiting if not task.done()}


async def main(options: argparse.Namespace) -> None:
    if options.core:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
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
                gc.collect()
                gc.freeze()  # as the gateway does
                if options.realtime:
                    go_first(os.getpid(), triton.pid, *triton.stubs())
                for submits in (0, options.submits):
                    channel = Channel(triton, session)
                    reading = asyncio.create_task(channel.read())
                    await asyncio.sleep(0.5)
                    await measure(channel, triton, options.sequences, submits, options.seconds, options.step)
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
    parser.add_argument("--core", action="store_true", help="all on one")
    parser.add_argument("--realtime", action="store_true", help="needs root")
    asyncio.run(main(parser.parse_args()))

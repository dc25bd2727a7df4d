"""How much later a first token comes through Triton's channel than from the raw engine, beside 63 streams, without a card.

    PYTHONPATH=operator:tests:hack python -m bench.first_token [--beside 63] [--count 24] [--rounds 4] [--realtime]
        [--trace | --switch]

The real tritonserver and the engine with `fake_card` in it; the raw engine is a process of its own with the same, idle while the
other is measured, and they take turns. Printed is the median of both, or with `--trace` what Triton and we add before and behind
the engine, and the moments in between: first tokens come at any moment of a step, so the medians of both need hundreds, the
parts do not. With `--switch` first tokens go ahead of others in every second half second only (decision 0036), and the time from
the step's return to the client is printed with and without. All streams are of one gateway. Bar: + 3 ms, on a card
(`chain_cuda.py --parts first trace`).
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

import weights
from bench.bare_loop import go_first
from bench.chain_streams import Channel
from bench.chain_trace import between, shim, trace
from bench.rounds import machine
from bench.standing import shorten
from gateway.conftest import ROOT, eventually
from gateway.test_real_triton import RealTriton

WINDOW = 8192
PROMPT = 512
INSTALL = f"""

sys.path.append({str(ROOT / "tests")!r})
from bench import fake_card

fake_card.install()
"""
SWITCH = """

from localmodel.engine.running import Running as _R
_find_first = _R.find_first
_R.find_first = lambda self, outputs: _find_first(self, outputs) if int(time.monotonic() * 2) % 2 else set()
"""


class Bench:
    def __init__(self, options: argparse.Namespace, directory: Path) -> None:
        self.options, self.directory = options, directory
        self.chance = random.Random(1)
        self.model = shorten(weights.make(weights.default_destination()), 1, directory / "model")
        self.engine = {"context_window": WINDOW, "max_batch_size": 64, "cpu_threads": 1, "model_path": str(self.model)}
        self.raw: asyncio.subprocess.Process

    def prompts(self, count: int, length: int) -> list[list[int]]:
        return [[self.chance.randrange(1000, 40000) for _ in range(length)] for _ in range(count)]

    def triton(self, marks: Path | None) -> RealTriton:
        triton = RealTriton(self.directory, self.model, WINDOW)
        file = self.directory / "repository" / "llm" / "1" / "model.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **self.engine}))
        triton.append_to_shim(INSTALL + (shim(marks) if marks else "") + (SWITCH if self.options.switch else ""))
        return triton

    async def ask_raw(self, verb: str, **fields: Any) -> dict[str, Any]:
        assert self.raw.stdin is not None and self.raw.stdout is not None
        self.raw.stdin.write(json.dumps({"do": verb, **fields}).encode() + b"\n")
        return dict(json.loads(await self.raw.stdout.readline()))

    async def start_raw(self) -> None:
        pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
        self.raw = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.fake_card", **pipes, limit=2**24)
        await self.ask_raw("load", **self.engine, device="cpu", channel_token_file="unused")

    @asynccontextmanager
    async def beside(self, channel: Channel) -> AsyncIterator[None]:
        if not self.options.beside:
            yield
            return
        running = asyncio.create_task(channel.ask(self.prompts(self.options.beside, 64), WINDOW - 64))
        await asyncio.sleep(1)
        yield
        await channel.cancel(channel.asked())
        await running

    async def switch(self, channel: Channel, marks: Path) -> None:
        seconds: tuple[list[float], list[float]] = ([], [])
        for prompt in self.prompts(self.options.count * self.options.rounds, PROMPT):
            (stream,) = await channel.ask([prompt], 8, first_only=True)
            await asyncio.sleep(0.1 + 0.05 * self.chance.random())
            end = stream.events[0][0]
            returned = dict(between(marks, stream.asked, end))["step returned"]
            seconds[int(end * 2) % 2].append(end - returned)
        print(f"from the step's return to the client, {self.options.beside} streams beside:", end=" ")
        print(", ".join(
            f"{name} {statistics.median(each) * 1000:.2f} ms (mean {statistics.mean(each) * 1000:.2f}, {len(each)})"
            for name, each in zip(("together", "first tokens ahead"), seconds, strict=True)
        ))  # fmt: skip

    async def compare(self, triton: RealTriton, session: aiohttp.ClientSession) -> None:
        seconds: dict[str, list[float]] = {"raw": [], "channel": []}
        count, answer = self.options.count, WINDOW - PROMPT
        for _ in range(self.options.rounds):
            beside = self.prompts(self.options.beside, 64)
            asked = await self.ask_raw("first", prompts=self.prompts(count, PROMPT), beside=beside, answer=answer)
            seconds["raw"] += asked["seconds"]
            async with Channel(triton.port, triton.token, session) as channel, self.beside(channel):
                for prompt in self.prompts(count, PROMPT):
                    (stream,) = await channel.ask([prompt], 8, first_only=True)
                    seconds["channel"].append(stream.first_seconds)
                    await asyncio.sleep(0.05 + 0.02 * self.chance.random())
        medians = {name: statistics.median(values) * 1000 for name, values in seconds.items()}
        each = len(seconds["channel"])
        print(f"first token of {PROMPT} tokens, {self.options.beside} streams beside, {each} each:", end=" ")
        print(f"raw {medians['raw']:.2f} ms, channel {medians['channel']:.2f}: {medians['channel'] - medians['raw']:+.2f}")


async def main(options: argparse.Namespace) -> None:
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(options, Path(name))
        marks = bench.directory / "marks.log" if options.trace or options.switch else None
        triton = bench.triton(marks)
        triton.start()
        try:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
                await eventually(lambda: _loaded(triton, session), 180)
                await bench.start_raw()
                if options.realtime:
                    go_first(os.getpid(), triton.pid, *triton.stubs(), bench.raw.pid)
                if marks is None:
                    await bench.compare(triton, session)
                else:
                    async with Channel(triton.port, triton.token, session) as channel, bench.beside(channel):
                        if options.switch:
                            await bench.switch(channel, marks)
                            return
                        await trace(channel, bench.prompts(options.count * options.rounds, PROMPT), marks, options.beside)
        finally:
            triton.kill()
            bench.raw.kill()


async def _loaded(triton: RealTriton, session: aiohttp.ClientSession) -> bool:
    try:
        async with session.post(f"http://127.0.0.1:{triton.port}/v2/repository/models/llm/load") as reply:
            return reply.status == 200
    except aiohttp.ClientError:
        return False


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=int, default=63)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--realtime", action="store_true", help="needs root")
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--switch", action="store_true")
    uvloop.run(main(parser.parse_args()))

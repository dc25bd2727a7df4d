"""What `chain_cuda.py` measures: starts, rates, first tokens and a document; in turn through the gateway, the channel and raw.

It prints; it neither starts processes by itself nor judges.
"""

import argparse
import asyncio
import random
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import aiohttp
from tokenizers import Tokenizer

from bench.chain_faults import leave
from bench.chain_rates import Rate, Stream, decode_rate, describe
from bench.chain_streams import Channel, ask_gateway
from bench.chain_world import RawEngine, World
from bench.gateway_parts import Part
from gateway.conftest import ROOT

MEASURED_STEPS = 128
BESIDE = 192
"""Prompt tokens that are surely computed in a step beside others."""


def lengths(batch: int) -> tuple[int, int]:
    """Of each prompt and answer: all decode together for MEASURED_STEPS, at 1,024 tokens on average."""
    filling = batch * 960 // BESIDE + 2
    return 960 - filling // 2, filling + MEASURED_STEPS


class Chain:
    def __init__(self, options: argparse.Namespace, world: World, raw: RawEngine, session: aiohttp.ClientSession) -> None:
        self.options, self.world, self.raw, self.session = options, world, raw, session
        self.chance = random.Random(1)
        self.bandwidth = 0.0
        self.sizes: dict[str, Any] = {}
        share = {"gpu_memory_share": 0.42} if options.device == "cuda" else {"cpu_threads": 1}
        self.engine = {
            "model_path": str(world.directory / "model"), "device": options.device, "context_window": 8192,
            "max_batch_size": 64, **share,
        }  # fmt: skip

    def prompts(self, count: int, length: int) -> list[list[int]]:
        """Nothing is shared: each begins with other tokens."""
        return [[self.chance.randrange(40000) for _ in range(length)] for _ in range(count)]

    async def prepare(self) -> None:
        model = {"directory": self.engine["model_path"], "tokenizer": str(self.options.pack / "tokenizer.json")}
        wrote = await self.raw.ask("write", **model, tiny=self.options.tiny, device=self.options.device)
        copied = await self.raw.ask("bandwidth", device=self.options.device)
        self.bandwidth = copied["bytes_per_second"]
        print(f"torch {copied['torch']}, {copied['device']}, copy {self.bandwidth / 1e12:.3f} TB/s", end="; ")
        print(f"model written in {wrote['seconds']:.0f} s", flush=True)

    async def start(self, name: str, shim: str = "", kernels: str = "", **changes: Any) -> None:
        """Prints seconds until the gateway is ready and the first token has come."""
        began = await self.world.start({**self.engine, **changes}, shim, kernels)
        await self.world.wait(self.world.ready, "readiness")
        ready = monotonic() - began
        stream = await ask_gateway(self.world.port, self.prompts(1, 500)[0], 2)
        engine = await self.world.engine()
        print(f"{name}: loaded in {engine['load_seconds']:.1f} s, ready {ready:.1f} s", end=", ")
        print(f"first token {stream.events[0][0] - began:.1f} s after the processes' start", flush=True)

    async def through_gateway(self, prompts: list[list[int]], answer: int) -> Rate:
        streams = await asyncio.gather(*(ask_gateway(self.world.port, prompt, answer) for prompt in prompts))
        if failed := [stream.error for stream in streams if stream.error]:
            raise SystemExit(f"{len(failed)} requests failed: {failed[0]}\n{self.world.logs()}")
        return decode_rate(streams)

    async def int8(self) -> None:
        for _ in range(2):
            rate = await self.through_gateway(self.prompts(1, 957), 135)
        print(f"INT8, one stream through the gateway: {rate.per_second:.1f} tok/s", flush=True)

    async def rates(self, batch: int, rounds: int) -> None:
        length, answer = lengths(batch)
        parts = {"triton": Part("", self.world.triton_pid), "gateway": Part("", self.world.gateway_pid)}
        seen: dict[str, list[Rate]] = {"gateway": [], "channel": [], "raw": []}
        async with self.channel() as channel:
            for number in range(rounds + 1):  # the first captures graphs
                before = {name: part.cpu() for name, part in parts.items()}
                began = monotonic()
                rate = await self.through_gateway(self.prompts(batch, length), answer)
                spent = {name: (part.cpu() - before[name]) / (monotonic() - began) for name, part in parts.items()}
                through = {"gateway": rate, "channel": decode_rate(await channel.ask(self.prompts(batch, length), answer))}
                through["raw"] = Rate(**await self.raw.ask("decode", prompts=self.prompts(batch, length), answer=answer))
                for name, rate in through.items():
                    seen[name] += [rate] if number else []
        print(f"{batch} streams at {length + answer // 2} tokens:", flush=True)
        base = statistics.median(rate.per_second for rate in seen["raw"])
        for name, each in seen.items():
            rate = sorted(each)[len(each) // 2]
            read = self.sizes["weights_bytes"] - 2 * self.sizes["embedding_elements"] + rate.cached * self.sizes["token_bytes"]
            print(f"  {name:8} {describe(rate, batch * self.bandwidth / read, base)}", end=", ")
            print(f"all rounds {[round(one.per_second, 1) for one in each]}", flush=True)
        print(f"  cores busy, filling included: {', '.join(f'{name} {cores:.2f}' for name, cores in spent.items())}", flush=True)

    async def first_tokens(self, beside: int, count: int = 80, length: int = 512) -> None:
        """Alternately, `beside` others decoding; they are as old in each case. They come at any moment of a step, so that the
        median of 24 was right within 1 ms only, and pauses of one length would ask at the same moment of every step."""
        seconds: dict[str, list[float]] = {"raw": [], "channel": [], "gateway": []}
        answer = 4000 if beside else 8
        async with self.channel() as channel:
            for _ in range(2):
                asked = await self.raw.ask(
                    "first", prompts=self.prompts(count, length), beside=self.prompts(beside, 64), answer=answer
                )
                seconds["raw"] += asked["seconds"]
                for name, ask in (("channel", self._ask_channel(channel)), ("gateway", self._ask_gateway)):
                    async with self.beside(beside):
                        for prompt in self.prompts(count, length):
                            seconds[name].append((await ask(prompt)).first_seconds)
                            await asyncio.sleep(0.05 + 0.02 * self.chance.random())
        medians = {name: statistics.median(values) * 1000 for name, values in seconds.items()}
        print(f"first token of {length} tokens, {beside} streams beside:", end=" ")
        print(
            ", ".join(f"{name} {median:.1f} ms ({median - medians['raw']:+.1f})" for name, median in medians.items()), flush=True
        )

    def _ask_channel(self, channel: Channel) -> Callable[[list[int]], Awaitable[Stream]]:
        async def ask(prompt: list[int]) -> Stream:
            return (await channel.ask([prompt], 8, first_only=True))[0]

        return ask

    async def _ask_gateway(self, prompt: list[int]) -> Stream:
        return await ask_gateway(self.world.port, prompt, 2)

    @asynccontextmanager
    async def beside(self, count: int) -> AsyncIterator[None]:
        """While so many streams decode."""
        running = [asyncio.create_task(ask_gateway(self.world.port, ids, 4000)) for ids in self.prompts(count, 64)]
        await self.world.wait(lambda: self._has_running(count), "running streams")
        await asyncio.sleep(0.5)
        yield
        await leave(running)
        await self.world.wait(lambda: self._has_running(0), "an idle engine")

    async def _has_running(self, count: int) -> bool:
        return bool((await self.world.engine()).get("running") == count)

    async def document(self, length: int = 7000) -> None:
        text = " ".join(path.read_text() for path in sorted((ROOT / "docs").rglob("*.md")))
        places = Tokenizer.from_file(str(self.options.pack / "tokenizer.json")).encode(text).offsets
        for number in range(4):  # the first captures graphs
            begin, end = places[number * length][0], places[(number + 1) * length][0]
            stream = await ask_gateway(self.world.port, text[begin:end], 200)
            if number:
                print(f"a document of {length} tokens answered in 200: first {stream.first_seconds:.2f} s", end=", ")
                print(f"whole {stream.seconds:.2f} s {stream.error}", flush=True)

    def channel(self) -> Channel:
        return Channel(self.world.triton_port, self.world.token, self.session)

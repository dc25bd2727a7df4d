"""Clients that leave, by the thousand, before the real Triton with the real model: is everything alive and given back after it?

    PYTHONPATH=operator:tests:hack python tests/bench/cancels.py [--count 10000] [--width 16] [--layers 4]

With `--layers` the model has only its first so many: a step costs less, all else is the same.

Mixed: in the queue, before and after the first token, unary and streamed; by close, half close and reset; readers that stop
reading; and one in ten that stays to the end. Prints how they ended, what is still held in gateway and engine, and the memory of
the three processes after a warm-up and after the run. Exits 1 if a process died or a slot or a KV token was not given back.
"""

import argparse
import asyncio
import json
import random
import re
import socket
import struct
import subprocess
import sys
from collections import Counter
from time import monotonic
from typing import Any

import aiohttp

from bench.standing import resident_mb, standing
from gateway.conftest import eventually
from gateway.test_real_triton import QUESTION
from gateway.wire import request

KINDS = ("close", "half_close", "reset", "mid_stream", "stalled", "unary", "close", "mid_stream", "reset", "stay")
LONGEST_SECONDS = 0.6
PATIENCE = 300
_LINGER = struct.pack("ii", 1, 0)


class Soak:
    def __init__(self, url: str, admin: str, session: aiohttp.ClientSession, gateway: int, triton: int) -> None:
        self._host, self._port = url.removeprefix("http://").split(":")
        self._admin = admin
        self._session = session
        self._gateway = gateway
        self._triton = triton
        self.endings: Counter[str] = Counter()
        self.last: dict[str, Any] = {}
        """Status."""

    async def status(self) -> dict[str, Any]:
        async with self._session.get(f"{self._admin}/status") as reply:
            document: dict[str, Any] = await reply.json()
            return document

    async def ready(self) -> bool:
        try:
            return bool((await self.status())["ready"])
        except (aiohttp.ClientError, OSError):
            return False

    async def quiet(self) -> bool:
        """Nothing runs, waits or is reserved, in the gateway or in the engine; its own test request passes."""
        self.last = status = await self.status()
        engine = status["backend"]["engine"] or {"running": -1}
        held = (status["slots_in_use"], status["queue_length"], status["tokens_in_use"], status["queued_bytes"])
        return not any(held) and engine["running"] == engine["waiting"] == 0

    async def one(self, number: int, chance: random.Random) -> None:
        kind = KINDS[number % len(KINDS)]
        stream = kind not in ("unary", "half_close") or chance.random() < 0.5
        reader, writer = await asyncio.open_connection(self._host, int(self._port), limit=2**20)
        fields = {"messages": QUESTION, "max_tokens": 24, "seed": number, "stream": stream}
        writer.write(request("/v1/chat/completions", json.dumps(fields).encode()))
        try:
            await self._read(reader, kind, chance.random() * LONGEST_SECONDS, stream=stream)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.endings["broken by the gateway"] += 1
        if kind == "half_close":
            writer.write_eof()
            await asyncio.sleep(0.01)
        elif kind in ("reset", "stalled"):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        writer.close()

    async def _read(self, reader: asyncio.StreamReader, kind: str, seconds: float, *, stream: bool) -> None:
        if kind == "stalled":
            await asyncio.sleep(seconds)
        elif kind == "mid_stream":
            await asyncio.wait_for(reader.readuntil(b'"content": "'), PATIENCE)
        elif kind == "stay":
            await asyncio.wait_for(reader.readuntil(b"[DONE]" if stream else b'"usage"'), PATIENCE)
        else:
            try:
                await asyncio.wait_for(reader.read(), seconds)
            except TimeoutError:
                self.endings[kind] += 1
                return
        self.endings[kind] += 1

    async def run(self, count: int, width: int) -> float:
        began = monotonic()
        numbers = iter(range(count))
        chance = random.Random(count)

        async def worker() -> None:
            for number in numbers:
                await self.one(number, chance)

        await asyncio.gather(*(worker() for _ in range(width)))
        await eventually(self.quiet, PATIENCE)
        return monotonic() - began

    def memory(self) -> dict[str, float]:
        """Resident MB."""
        stub = subprocess.run(["pgrep", "-P", str(self._triton), "-f", "stub"], capture_output=True, text=True).stdout.split()
        pids = {"gateway": self._gateway, "triton": self._triton, "engine": int(stub[0])}
        return {name: resident_mb(pid) for name, pid in pids.items()}

    async def outcomes(self) -> dict[str, int]:
        async with self._session.get(f"{self._admin}/metrics") as reply:
            text = await reply.text()
        found: Counter[str] = Counter()
        for outcome, value in re.findall(r'^localmodel_gateway_requests_total\{.*?outcome="(\w+)".*?\} (\S+)$', text, re.M):
            found[outcome] += int(float(value))
        wasted = re.search(r"^localmodel_gateway_wasted_tokens_total (\S+)$", text, re.M)
        found["tokens made for nobody"] = int(float(wasted[1])) if wasted else 0
        return {name: value for name, value in found.items() if value}


async def main(count: int, width: int, layers: int) -> int:
    async with standing(layers) as parts, aiohttp.ClientSession() as session:
        return await measure(Soak(parts.url, parts.admin, session, parts.gateway, parts.triton.pid), count, width)


async def measure(soak: Soak, count: int, width: int) -> int:
    await eventually(soak.ready, PATIENCE)
    warm_up = min(300, count)
    await soak.run(warm_up, width)
    before = soak.memory()
    soak.endings.clear()
    seconds = await soak.run(count, width)
    after = soak.memory()
    await asyncio.sleep(3)
    await eventually(soak.quiet, PATIENCE)
    status = soak.last
    engine = status["backend"]["engine"]
    print(f"{count} requests, {width} at once, {seconds:.0f} s, {warm_up} before them to warm up: {dict(soak.endings)}")
    print(f"outcomes, warm-up included: {await soak.outcomes()}")
    print(f"held: slots {status['slots_in_use']}, queue {status['queue_length']}, tokens {status['tokens_in_use']}")
    print(f"engine: {status['backend']['state']}, running {engine['running']}, KV tokens used {engine['kv_tokens_used']}")
    for name, megabytes in before.items():
        print(f"memory of {name}: {megabytes:.1f} MB before, {after[name]:.1f} MB after")
    held = (status["slots_in_use"], status["tokens_in_use"], engine["running"])
    return 0 if status["ready"] and not any(held) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--layers", type=int, default=0, help="of the model; 0: all")
    options = parser.parse_args()
    sys.exit(asyncio.run(main(options.count, options.width, options.layers)))

"""What the gateway adds to a streamed answer, against the scripted Triton of the tests: ours and a direct call, in turns.

    PYTHONPATH=operator:tests python tests/bench/gateway_overhead.py [--requests 300] [--streams 1] [--tokens 16]

Both answers hold the same tokens, sent without a pause, so that all of the time is transport. The direct call reads
`generate_stream` as Triton's own clients do. What ours adds includes the fake's own work for a submit and for the event
stream, in this process: it is an upper bound. Prints p50 and p99 of both to the first token and to the end, the ratio, and
the gateway's memory before and after. Nothing is asserted: times on a shared machine are read by people.
"""

import argparse
import asyncio
import json
import os
import re
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter

import aiohttp

from gateway.conftest import CHAT, ROOT, eventually, free_ports
from gateway.fake_triton import FakeTriton, Plan
from gateway.tiny_model import write_tiny_model

Times = list[tuple[float, float]]


@asynccontextmanager
async def running_gateway(triton: FakeTriton, slots: int) -> AsyncIterator[tuple[str, int]]:
    """The gateway as a process, its log thrown away; yields its URL and its process id."""
    serving, admin = free_ports(2)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        settings = {
            "model_name": "tiny-model", "served_names": ["tiny"], "context_window": 512, "max_batch_size": slots,
            "model_path": str(write_tiny_model(directory)), "serving_host": "127.0.0.1", "serving_port": serving,
            "admin_host": "127.0.0.1", "admin_port": admin, "triton_url": f"http://127.0.0.1:{triton.port}",
            "channel_token_file": str(directory / "token"), "endpoint_removal_seconds": 0,
        }  # fmt: skip
        file = directory / "gateway.json"
        file.write_text(json.dumps(settings))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "localmodel.gateway", "--settings", str(file), stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT / "operator")},
        )  # fmt: skip
        try:
            async with aiohttp.ClientSession() as session:
                await eventually(lambda: is_ready(session, f"http://127.0.0.1:{admin}/readyz"), 30)
            yield f"http://127.0.0.1:{serving}", process.pid
        finally:
            process.terminate()
            await process.wait()


async def is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as reply:
            return reply.status == 200
    except aiohttp.ClientError:
        return False


async def stream(session: aiohttp.ClientSession, url: str, body: object) -> tuple[float, float]:
    """Milliseconds to the first event and to the end."""
    began = perf_counter()
    first = 0.0
    async with session.post(url, json=body) as reply:
        assert reply.status == 200, await reply.text()
        while chunk := await reply.content.readany():
            if not first and b"data: " in chunk:
                first = perf_counter()
    return (first - began) * 1000, (perf_counter() - began) * 1000


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def report(what: str, ours: list[float], direct: list[float]) -> None:
    print(f"{what:12} {'p50':>8} {'p99':>8}  ms")
    for name, values in (("gateway", ours), ("direct", direct)):
        print(f"  {name:10} {percentile(values, 0.5):8.2f} {percentile(values, 0.99):8.2f}")
    added = [percentile(ours, share) - percentile(direct, share) for share in (0.5, 0.99)]
    ratio = statistics.median(ours) / statistics.median(direct)
    print(f"  {'added':10} {added[0]:8.2f} {added[1]:8.2f}   ratio of medians {ratio:.2f}")


def memory_mb(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


async def measure(requests: int, streams: int, tokens: int) -> None:
    triton = FakeTriton(free_ports(1)[0])
    triton.plan = Plan(texts=(" word",) * tokens, gap=0)
    await triton.start()
    direct_url = f"http://127.0.0.1:{triton.port}/v2/models/llm/generate_stream"
    direct_body = {"REQUEST": json.dumps({"op": "generate", "text": "What", "stream": True})}
    ours: Times = []
    direct: Times = []
    async with running_gateway(triton, max(4, streams)) as (url, pid), aiohttp.ClientSession() as session:
        idle = memory_mb(pid)

        async def one_round(kept: bool) -> None:
            for into, target, body in (
                (ours, f"{url}/v1/chat/completions", {**CHAT, "stream": True}),
                (direct, direct_url, direct_body),
            ):
                times = await asyncio.gather(*(stream(session, target, body) for _ in range(streams)))
                into += times if kept else []

        for number in range(20 + requests // streams):
            await one_round(number >= 20)
        print(f"{len(ours)} streams of {tokens} tokens, {streams} at once")
        report("first token", [first for first, _ in ours], [first for first, _ in direct])
        report("whole answer", [whole for _, whole in ours], [whole for _, whole in direct])
        print(f"gateway's memory: {idle:.0f} MB idle, {memory_mb(pid):.0f} MB after")
    await triton.die()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--streams", type=int, default=1, help="at once")
    parser.add_argument("--tokens", type=int, default=16)
    options = parser.parse_args()
    asyncio.run(measure(options.requests, options.streams, options.tokens))

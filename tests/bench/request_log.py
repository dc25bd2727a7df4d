"""What the request log costs: throughput of a gateway without a log against one in mode Full with redaction, in turns.

    PYTHONPATH=operator:tests python tests/bench/request_log.py [--rounds 10] [--requests 40] [--clients 8] [--tokens 64]

Each round asks every gateway for the same streamed and unary chats, whose prompts and answers hold a telephone number and an
e-mail address. Throughput is requests per second of the gateway's own processor time (a gateway is one thread and a log
thread, so that is what one core gives), because in this process the clients and the scripted Triton take more than the
gateway does. Also printed: requests per second by the clock, and what was written. Medians over the rounds; nothing is asserted.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import aiohttp

from gateway.conftest import ROOT, eventually, free_ports
from gateway.fake_triton import FakeTriton, Plan
from gateway.tiny_model import write_tiny_model

MODES = ("None", "Metadata", "Full")
PROMPT = "What is the capital of France? " * 8 + "Write to zhang.san@bank.cn or call 138 0013 8000."
ANSWER = (" the", " capital", " is", " Par", "is", ",", " call", " 138", "0013", "8000", " or", " a", "@", "b.cn", ".", " Then")


class Gateway(NamedTuple):
    url: str
    pid: int
    log: Path


class Round(NamedTuple):
    per_core_second: float
    per_second: float


@asynccontextmanager
async def running(triton: FakeTriton, mode: str, slots: int) -> AsyncIterator[Gateway]:
    serving, admin = free_ports(2)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        settings = {
            "model_name": "tiny-model", "served_names": ["tiny"], "context_window": 4096, "max_batch_size": slots,
            "model_path": str(write_tiny_model(directory)), "serving_host": "127.0.0.1", "serving_port": serving,
            "admin_host": "127.0.0.1", "admin_port": admin, "triton_url": f"http://127.0.0.1:{triton.port}",
            "channel_token_file": str(directory / "token"), "endpoint_removal_seconds": 0, "log_mode": mode,
            "redact_patterns": ["EMP-[0-9]{6}"],
        }  # fmt: skip
        (directory / "gateway.json").write_text(json.dumps(settings))
        log = directory / "log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "localmodel.gateway", "--settings", str(directory / "gateway.json"), stdout=output,
                stderr=asyncio.subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT / "operator")},
            )  # fmt: skip
        try:
            async with aiohttp.ClientSession() as session:
                await eventually(lambda: is_ready(session, f"http://127.0.0.1:{admin}/readyz"), 90)
            yield Gateway(f"http://127.0.0.1:{serving}/v1/chat/completions", process.pid, log)
        finally:
            process.terminate()
            await process.wait()


async def is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    with contextlib.suppress(aiohttp.ClientError):
        async with session.get(url) as reply:
            return reply.status == 200
    return False


def processor_seconds(pid: int) -> float:
    """Of all its threads, to the nanosecond: the ticks of /proc/PID/stat are too coarse for a round."""
    return sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


async def ask(session: aiohttp.ClientSession, gateway: Gateway, stream: bool) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": PROMPT}], "stream": stream}
    async with session.post(gateway.url, json=body) as reply:
        assert reply.status == 200, await reply.text()
        await reply.read()


async def one_round(session: aiohttp.ClientSession, gateway: Gateway, requests: int, clients: int) -> Round:
    used, began = processor_seconds(gateway.pid), perf_counter()
    for start in range(0, requests, clients):
        await asyncio.gather(*(ask(session, gateway, number % 2 == 0) for number in range(start, start + clients)))
    await asyncio.sleep(0.3)  # for the log's thread to catch up: its work belongs to this round
    used, took = processor_seconds(gateway.pid) - used, perf_counter() - began - 0.3
    return Round(requests / used, requests / took)


async def measure(rounds: int, requests: int, clients: int, tokens: int) -> None:
    triton = FakeTriton(free_ports(1)[0])
    triton.plan = Plan(texts=(ANSWER * (tokens // len(ANSWER) + 1))[:tokens], gap=0)
    await triton.start()
    results: dict[str, list[Round]] = {mode: [] for mode in MODES}
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        gateways = {mode: await stack.enter_async_context(running(triton, mode, clients)) for mode in MODES}
        for number in range(rounds + 1):
            for mode in MODES if number % 2 else reversed(MODES):
                result = await one_round(session, gateways[mode], requests, clients)
                results[mode] += [result] if number else []
        written = {mode: gateway.log.stat().st_size / (requests * (rounds + 1)) for mode, gateway in gateways.items()}
    await triton.die()
    print(f"{rounds} rounds of {requests} requests, {clients} at once, {tokens} tokens each")
    base = statistics.median(each.per_core_second for each in results["None"])
    for mode in MODES:
        core, clock = (statistics.median(each[place] for each in results[mode]) for place in (0, 1))
        print(f"{mode:9} {core:7.0f} requests per core second ({core / base:.3f}), {clock:6.0f} by the clock, "
              f"{written[mode]:6.0f} bytes a request")  # fmt: skip
    pairs = zip(results["None"], results["Full"], strict=True)
    print(f"Full costs {100 * (1 - statistics.median(full.per_core_second / none.per_core_second for none, full in pairs)):.1f} %"
          " of throughput (median over the rounds)")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--requests", type=int, default=40, help="in a round")
    parser.add_argument("--clients", type=int, default=8, help="at once")
    parser.add_argument("--tokens", type=int, default=64)
    options = parser.parse_args()
    asyncio.run(measure(options.rounds, options.requests, options.clients, options.tokens))

"""A long load on the engine in the real Triton, with a pool that is too small: is every token right, and does memory stay flat?

    PYTHONPATH=operator:tests:hack python -m bench.engine_soak [--minutes 30] [--layers 4] [--blocks 56]

Two gateways whose event streams are cut now and then, gateways that never come back, direct clients, cancels, deadlines and
broken requests. Requests with a seed must become what they became alone, before; of the others the tokens are counted. Each
minute one line; at the end memory by thirds. Exits 1 if a token was wrong, missing or doubled, if a broken request was
accepted, if nobody was preempted, or if something is still held.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections import Counter
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
from tokenizers import Tokenizer

import weights
from bench.engine_clients import GRACE_SECONDS, Engine, Instance
from bench.engine_questions import WINDOW, make_questions
from bench.engine_traffic import Soak
from bench.rounds import machine
from bench.standing import resident_mb, shorten
from gateway.conftest import ROOT, eventually
from gateway.test_real_triton import RealTriton

WORKERS = 10
"""Of each gateway; the engine has 8 slots."""


async def measure(soak: Soak, triton: RealTriton, minutes: float) -> list[Counter[str]]:
    """Resident MB of server and engine without pages of files, every ten seconds."""
    pids = {"triton": triton.pid, "engine": triton.stubs()[0]}
    memory = []
    until = monotonic() + minutes * 60
    while monotonic() < until:
        await asyncio.sleep(min(10, max(0, until - monotonic())))
        memory.append(Counter({name: resident_mb(pid, "RssAnon") for name, pid in pids.items()}))
        if len(memory) % 6 == 0:
            held = ", ".join(f"{name} {megabytes:.1f} MB" for name, megabytes in memory[-1].items())
            print(f"{len(memory) // 6} min: {soak.counts['tokens']:,} tokens, {len(soak.engine.wrong)} wrong, {held}", flush=True)
    return memory


async def run(triton: RealTriton, model: Path, minutes: float) -> tuple[Soak, list[Counter[str]], dict[str, Any]]:
    """What was seen, the memory, and the engine's last status."""
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        engine = Engine(triton.port, triton.token, session)
        await eventually(engine.load, 180)
        soak = Soak(engine, make_questions(Tokenizer.from_file(str(model / "tokenizer.json"))))
        instances = [Instance(engine, name) for name in ("first", "second")]
        for instance in instances:
            await instance.connect()
        await soak.refer(instances[0])
        print(f"{len(soak.references)} questions answered alone", flush=True)
        cutting = asyncio.create_task(soak.cut(instances, 7))
        workers = [asyncio.create_task(soak.work(each, number)) for number in range(WORKERS) for each in instances]
        memory = await measure(soak, triton, minutes)
        soak.stopping = True
        await asyncio.gather(*workers)
        cutting.cancel()
        await asyncio.wait([cutting])
        for instance in instances:
            await instance.cut()
        await asyncio.sleep(3)
        await eventually(soak.idle, 30)
        status = await engine.ask("status")
    return soak, memory, status


def report(soak: Soak, memory: list[Counter[str]], status: dict[str, Any], preempted: int) -> int:
    third = max(1, len(memory) // 3)
    for name in memory[0]:
        means = [statistics.mean(each[name] for each in memory[at : at + third]) for at in (0, third, len(memory) - third)]
        print(f"memory of {name} by thirds: " + ", ".join(f"{mean:.1f}" for mean in means) + " MB")
    print(f"{dict(soak.counts)}\npreemptions {preempted}; drafted {status['drafted_tokens_total']}, "
          f"of them right {status['accepted_tokens_total']}; held at the end: {status['running']} running, "
          f"{status['kv_tokens_used']} tokens")  # fmt: skip
    print(f"wrong: {len(soak.engine.wrong)}")
    return int(bool(soak.engine.wrong) or not preempted or not soak.counts["ended by length"])


def main(options: argparse.Namespace) -> int:
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        model = shorten(weights.make(weights.default_destination()), options.layers, Path(name) / "model")
        triton = RealTriton(Path(name), model, WINDOW)
        shim = Path(name) / "repository" / "llm" / "1" / "model.py"
        shim.write_bytes((ROOT / "tests" / "bench" / "small_pool" / "model.py").read_bytes())
        settings = shim.with_name("model.json")
        settings.write_text(json.dumps({**json.loads(settings.read_text()), "reconnect_grace_seconds": GRACE_SECONDS}))
        preemptions = Path(name) / "preemptions"
        os.environ |= {"SMALL_POOL_BLOCKS": str(options.blocks), "SMALL_POOL_PREEMPTIONS": str(preemptions)}
        triton.start()
        try:
            seen = asyncio.run(run(triton, model, options.minutes))
        finally:
            triton.kill()
        return report(*seen, int(preemptions.read_text()) if preemptions.exists() else 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--layers", type=int, default=4, help="of the model")
    parser.add_argument("--blocks", type=int, default=56, help="of 16 tokens, in the engine's pool")
    sys.exit(main(parser.parse_args()))

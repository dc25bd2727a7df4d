"""What several cards inside the real Triton make of the chain: tokens per second beside one card, and a rank that is killed.

Why it exists: `ranks_cuda` measures the raw engine; here the ranks are processes of Triton's stub, started as a pod's are, behind
the gateway. It must not load the raw engine, which takes a card's memory, nor end any process but one rank of its own Triton.
"""

import asyncio
import os
import signal
import statistics
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from bench.chain_faults import serve_again
from bench.chain_measure import Chain, lengths
from bench.chain_rates import Rate
from bench.chain_streams import ask_gateway
from bench.chain_world import World

BATCHES = [1, 16, 64]
RANK = "-m localmodel.engine.rank "


class Process(NamedTuple):
    pid: int
    began: str
    """The kernel's time: a pid alone may later be another's."""
    parent: int
    command: str


async def several_cards(chain: Chain, cards: int) -> None:
    """Each number of cards has kernels to compile at its start, and none when it serves again after the kill."""
    several = {"gpu_count" if chain.options.device == "cuda" else "cpu_ranks": cards}
    seen: list[dict[int, float]] = []
    for count, changes in ((1, {}), (cards, several)):
        await chain.world.stop()
        await chain.start(f"{count} card(s), kernels new", kernels=f"cards-{count}", **changes)
        seen.append({batch: await rate(chain, batch, count) for batch in chain.options.batches or BATCHES})
    for (batch, one), more in zip(seen[0].items(), seen[1].values(), strict=True):
        print(f"{batch} streams through the gateway: {one:.1f} tok/s on one, {more:.1f} on {cards}: {more / one:.2f} x")
    await kill_rank(chain)


async def rate(chain: Chain, batch: int, cards: int) -> float:
    """Tokens per second, the median of the rounds. Guesses make some streams end before others begin: then all get longer."""
    length, answer = lengths(batch)
    rounds: list[Rate] = []
    while len(rounds) <= chain.options.rounds:
        try:
            rounds.append(await chain.through_gateway(chain.prompts(batch, length), answer))
        except ValueError:
            answer *= 2
    del rounds[0]  # captured graphs
    p50, p99 = (statistics.median(values) * 1000 for values in ([one.gap for one in rounds], [one.gap_p99 for one in rounds]))
    print(f"  {cards} card(s), {batch} streams of {length} + {answer} tokens: gap p50 {p50:.2f}, p99 {p99:.2f} ms", end=", ")
    print(f"all rounds {[round(one.per_second, 1) for one in rounds]} tok/s", flush=True)
    return statistics.median(one.per_second for one in rounds)


async def kill_rank(chain: Chain) -> None:
    world = chain.world
    prompts = chain.prompts(2, 300)
    stream = asyncio.create_task(ask_gateway(world.port, prompts[0], 7000))
    await world.wait(lambda: _runs(world), "a running stream")
    await asyncio.sleep(0.5)
    instance = offspring(world.triton_pid)
    ranks = [one for one in instance if is_rank(one, world.triton_pid)]
    if not ranks or stream.done():
        raise SystemExit(f"{len(ranks)} ranks run, the stream has ended: {stream.done()}; nothing was killed\n{world.logs()}")
    print(f"{len(ranks)} rank(s) behind the first; the last one, process {ranks[-1].pid}, is killed", flush=True)
    began = monotonic()
    os.kill(ranks[-1].pid, signal.SIGKILL)
    heard, unready, _ = await asyncio.gather(
        _heard(stream), world.wait(lambda: _unready(world), "a gateway that is not ready"),
        world.wait(lambda: _failure(world), "a last failure"),
    )  # fmt: skip
    error = (await stream).error
    print(f"the client heard after {heard - began:.1f} s: {error[error.find('error') :][:300]!r}")
    print(f"not ready after {unready:.1f} s; last_failure: {await _failure(world)}", flush=True)
    restarts = await serve_again(world)
    whole = monotonic() - began
    answer = await ask_gateway(world.port, prompts[1], 8)
    left = [now for one in instance if (now := find(one.pid)) and now.began == one.began]
    print(f"serving again {whole:.1f} s after the kill, Triton restarted {restarts} times; an answer: {answer.error or 'ok'}")
    print(f"processes of the dead instance that are left: {len(left)} of {len(instance)}", *left, sep="\n  ", flush=True)
    now = [is_rank(one, world.triton_pid) for one in offspring(world.triton_pid)]
    print(f"of the new instance {len(now)} run, {sum(now)} of them ranks behind the first", flush=True)


async def _heard(stream: "asyncio.Task[Any]") -> float:
    await stream
    return monotonic()


async def _runs(world: World) -> bool:
    return bool((await world.engine()).get("running") == 1)


async def _unready(world: World) -> bool:
    return not (await world.status())["ready"]


async def _failure(world: World) -> str:
    return str((await world.status())["backend"]["last_failure"])


def is_rank(process: Process, session: int) -> bool:
    """World starts Triton in a session of its own, in which its ranks stay."""
    try:
        return RANK in process.command and os.getsid(process.pid) == session
    except ProcessLookupError:
        return False


def offspring(pid: int) -> list[Process]:
    """Of Triton: the stub, which is the first rank, and all that it started."""
    there = [one for folder in Path("/proc").glob("[0-9]*") if (one := find(int(folder.name)))]
    found: list[Process] = []
    parents = {pid}
    while parents:
        children = [one for one in there if one.parent in parents]
        found += children
        parents = {one.pid for one in children}
    return found


def find(pid: int) -> Process | None:
    """None if there is none, or one that has ended and only its parent has not asked how."""
    try:
        state, parent, *more = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        command = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
    except OSError:
        return None
    return None if state in "ZX" else Process(pid, more[17], int(parent), command)

"""What `chain_cuda.py` does to the chain on purpose: a hundred clients that leave, and a kernel that fails on the card."""

import asyncio
import random
from collections.abc import Sequence
from time import monotonic

from bench.chain_rates import Stream
from bench.chain_streams import Channel, ask_gateway
from bench.chain_world import World

SHIM = """

import torch

if torch.cuda.is_available():
    from localmodel.engine.card_runner import CardRunner as _Runner
    _verb, _device = "launch", "cuda"
else:
    from localmodel.engine.runner import Runner as _Runner
    _verb, _device = "run", "cpu"
_compute = getattr(_Runner, _verb)


def _fail(self, works):
    if any(work.sequence.sampling.seed == 66603 and len(work.sequence.answer) >= 50 for work in works):
        torch.zeros(8, device=_device)[torch.full((8,), 1 << 20, device=_device)].sum()
    return _compute(self, works)


setattr(_Runner, _verb, _fail)
"""
"""Behind model.py: a request with this seed makes a kernel read outside of its tensor: a card stops all work of the process."""


async def cancel_storm(world: World, channel: Channel, prompts: list[list[int]]) -> None:
    """Clients that leave at random moments of two seconds; then as many as run at once, all in the same moment."""
    chance = random.Random(2)
    asked = [ask_gateway(world.port, prompt, 4000, 0.02 + 2 * chance.random()) for prompt in prompts]
    storm = asyncio.gather(*asked)
    peak = 0
    while not storm.done():
        peak = max(peak, (await channel.status())["kv_tokens_used"])
        await asyncio.sleep(0.02)
    left = sum(bool(stream.error) for stream in await storm)
    seconds = await _until_free(world, channel)
    status = await world.status()
    print(f"{left} of {len(prompts)} clients left: at most {peak:,} tokens cached", end=", ")
    print(
        f"none held {seconds * 1000:.0f} ms after the last; slots in use {status['slots_in_use']}, ready {status['ready']}",
        end=", ",
    )
    print(f"last failure {status['backend']['last_failure']!r}")
    running = [asyncio.create_task(ask_gateway(world.port, prompt, 4000)) for prompt in prompts[:64]]

    async def all_run() -> bool:
        return bool((await channel.status())["running"] == len(running))

    await world.wait(all_run, "running streams")
    held = (await channel.status())["kv_tokens_used"]
    await leave(running)
    seconds = await _until_free(world, channel)
    print(f"{len(running)} clients left at once with {held:,} tokens cached: none held after {seconds * 1000:.0f} ms", flush=True)


async def leave(asking: Sequence[asyncio.Task[Stream]]) -> None:
    """Closes their connections."""
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)


async def _until_free(world: World, channel: Channel) -> float:
    async def free() -> bool:
        status = await channel.status()
        return not any(status[name] for name in ("kv_tokens_used", "running", "waiting"))

    return await world.wait(free, "KV tokens given back")


async def device_fault(world: World, prompts: list[list[int]]) -> None:
    """The chain was started with SHIM."""
    innocent = asyncio.create_task(ask_gateway(world.port, prompts[0], 4000))
    await asyncio.sleep(0.5)
    began = monotonic()
    streams = [await ask_gateway(world.port, prompts[1], 400, seed=66603), await innocent]
    told = monotonic() - began
    for stream in streams:
        print(f"a kernel failed, the client heard: {stream.error[stream.error.find('error') :][:300]!r}")

    async def explained() -> bool:
        return bool((await world.status())["backend"]["last_failure"])

    await world.wait(explained, "a last failure")
    print(f"all told after {told:.1f} s; last_failure: {(await world.status())['backend']['last_failure']}")
    restarts = await serve_again(world)
    whole = monotonic() - began
    stream = await ask_gateway(world.port, prompts[2], 8)
    print(
        f"serving again {whole:.1f} s after the fault, Triton restarted {restarts} times; an answer: {stream.error or 'ok'}",
        flush=True,
    )


async def serve_again(world: World) -> int:
    """As the kubelet does it: a Triton that fails its liveness probe ten times is started anew."""
    restarts = failures = 0
    async with asyncio.timeout(180):
        while not (await world.status())["ready"]:
            failures = 0 if await world.alive() else failures + 1
            if failures == 10:
                await world.restart_triton()
                restarts += 1
            await asyncio.sleep(1)
    return restarts

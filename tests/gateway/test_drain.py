"""Stopping: no stream is lost while others still send, what is left hears a typed goodbye, and the process exits with 0."""

import asyncio
import json

import pytest

from gateway.conftest import CHAT, GatewayProcess, Start, eventually
from gateway.fake_triton import FakeTriton, Plan
from gateway.invariants import check_stream
from gateway.test_backend import has_code, state_is


async def test_drain_loses_no_stream_and_sigterm_exits_zero(start: Start, triton: FakeTriton) -> None:
    gateway = await start(endpoint_removal_seconds=3.0)
    triton.plan = Plan(texts=("a ",) * 400, gap=0.02)
    streams = [asyncio.create_task(gateway.chat(stream=True)) for _ in range(3)]
    await eventually(lambda: len(triton.user_submits) == 3)
    draining = asyncio.create_task(gateway.code("/drain"))
    await eventually(lambda: has_code(gateway, "/readyz", 503))
    assert (await gateway.status())["reason"] == "Draining"
    late = asyncio.create_task(gateway.chat(stream=True))
    await eventually(lambda: len(triton.user_submits) == 4)
    await asyncio.sleep(3.1)
    async with await gateway.post("/v1/chat/completions", CHAT) as refused:
        assert refused.status == 503 and (await refused.json())["error"]["code"] == "draining"
        assert refused.headers["connection"] == "close", "a retry must not come to this replica again"
    assert not draining.done()
    for _, stream in await asyncio.gather(*streams, late):
        assert check_stream(stream).text == "a " * 400
    assert await draining == 200
    assert (await gateway.status())["draining"] is True
    gateway.terminate()
    assert await gateway.exit_code() == 0
    outcomes = sorted(record["outcome"] for record in gateway.records)
    assert outcomes == ["drained", "ok", "ok", "ok", "ok"]


async def test_draining_is_left_when_a_new_triton_appears(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    assert await gateway.code("/drain") == 200
    assert (await gateway.status())["reason"] == "Draining"
    await triton.die()
    await eventually(lambda: state_is(gateway, "Unreachable"))
    await triton.start()
    await gateway.ready()


@pytest.mark.parametrize("busy", [False, True])
async def test_sigterm_alone(start: Start, triton: FakeTriton, *, busy: bool) -> None:
    gateway = await start(timeouts={"total_seconds": 60.0})
    triton.plan = Plan(texts=("a ",) * 40, gap=0.02)
    held = asyncio.create_task(gateway.chat(stream=True)) if busy else None
    if held:
        await eventually(lambda: triton.user_submits)
    gateway.terminate()
    if held:
        assert check_stream((await held)[1]).text == "a " * 40
    assert await gateway.exit_code() == 0
    assert len(gateway.records) == int(busy)


async def test_a_second_sigterm_ends_what_is_left_with_an_error(start: Start, triton: FakeTriton) -> None:
    gateway = await start(max_batch_size=2, timeouts={"total_seconds": 60.0})
    triton.plan = Plan(stall_after=2)
    streaming = asyncio.create_task(gateway.chat(stream=True))
    await eventually(lambda: triton.user_submits)
    triton.may_generate.clear()
    v2 = asyncio.create_task(gateway.post("/v2/models/llm/generate", {"REQUEST": '{"text": "What"}'}))
    await eventually(lambda: triton.generates)
    queued = asyncio.create_task(gateway.chat())
    await eventually(lambda: has_queue(gateway, 1))
    gateway.terminate()
    await eventually(lambda: has_code(gateway, "/readyz", 503))
    assert not streaming.done() and gateway.process.returncode is None
    gateway.terminate()
    stream = check_stream((await streaming)[1])
    assert stream.text == "The capital" and stream.error is not None and stream.error["code"] == "draining"
    status, body = await queued
    assert (status, json.loads(body)["error"]["code"]) == (503, "draining")
    async with await v2 as reply:
        assert reply.status == 503 and "shutting down" in await reply.text()
    assert await gateway.exit_code() == 0
    assert [record["outcome"] for record in gateway.records] == ["drained"] * 3


async def has_queue(gateway: GatewayProcess, length: int) -> bool:
    return bool((await gateway.status())["queue_length"] == length)

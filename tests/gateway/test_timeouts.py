"""The four timeouts, each with its own status before the head and its own event after it, and overload."""

import asyncio
import json
import signal
from typing import Any

import pytest

from gateway.conftest import CHAT, GatewayProcess, Start, eventually
from gateway.fake_triton import FakeTriton, Plan
from gateway.invariants import check_stream

LONG = {"queue_seconds": 20, "first_token_seconds": 20, "idle_seconds": 20, "total_seconds": 20}


async def expect(gateway: GatewayProcess, code: str, *, retry: str = "false", **fields: Any) -> None:
    async with await gateway.post("/v1/chat/completions", {**CHAT, **fields}) as reply:
        assert reply.status == 504
        error = (await reply.json())["error"]
        assert error["code"] == code and "raise timeouts." in error["message"]
        assert reply.headers["x-should-retry"] == retry


@pytest.mark.parametrize("stream", [False, True])
async def test_first_token(start: Start, triton: FakeTriton, *, stream: bool) -> None:
    gateway = await start(timeouts={**LONG, "first_token_seconds": 1.0})
    triton.plan = Plan(first_delay=60)
    await expect(gateway, "first_token_timeout", stream=stream)
    await gateway.idle()
    assert len(triton.user_cancels) == 1
    await eventually(lambda: not triton.running)
    assert (await gateway.record())["outcome"] == "first_token_timeout"
    await gateway.balanced()


async def test_first_token_ignores_the_accept(start: Start, triton: FakeTriton) -> None:
    gateway = await start(timeouts={**LONG, "first_token_seconds": 1.0})
    triton.plan = Plan(accept_delay=2.0)
    await expect(gateway, "first_token_timeout")
    await eventually(lambda: triton.user_cancels == [triton.user_submits[0]["id"]])
    assert not triton.overtaken, "the cancel came before the submit was answered"
    await gateway.idle()


async def test_idle_mid_stream_and_unary(start: Start, triton: FakeTriton) -> None:
    gateway = await start(timeouts={**LONG, "idle_seconds": 3.0})
    triton.plan = Plan(stall_after=2)
    status, body = await gateway.chat(stream=True)
    stream = check_stream(body)
    assert status == 200 and stream.text == "The capital" and stream.error is not None
    assert stream.error["code"] == "idle_timeout"
    await expect(gateway, "idle_timeout")
    await gateway.idle()
    assert len(triton.user_cancels) == 2
    await gateway.balanced()


async def test_total_caps_the_others(start: Start, triton: FakeTriton) -> None:
    gateway = await start(timeouts={"total_seconds": 2.0}, max_batch_size=1)
    triton.plan = Plan(first_delay=60)
    await expect(gateway, "total_timeout")
    triton.plan = Plan(texts=("a ",) * 1000, gap=0.05)
    stream = check_stream((await gateway.chat(stream=True))[1])
    assert stream.text.startswith("a a ") and stream.error is not None and stream.error["code"] == "total_timeout"
    await gateway.idle()


async def test_queue_and_overload(start: Start, triton: FakeTriton) -> None:
    gateway = await start(timeouts={**LONG, "queue_seconds": 5.0}, max_batch_size=2, concurrency={"queue": 1})
    triton.plan = Plan(stall_after=0)
    held = [asyncio.create_task(gateway.chat()) for _ in range(2)]
    await eventually(lambda: len(triton.user_submits) == 2)
    waiting = asyncio.create_task(expect(gateway, "queue_timeout", retry="true"))
    await eventually(lambda: queued(gateway, 1))
    async with await gateway.post("/v1/chat/completions", CHAT) as reply:
        assert reply.status == 503 and reply.headers["x-should-retry"] == "true"
        assert int(reply.headers["retry-after"]) >= 1 and int(reply.headers["retry-after-ms"]) >= 1
        assert (await reply.json())["error"]["code"] == "server_is_overloaded"
    await waiting
    assert len(triton.user_submits) == 2
    for task in held:
        task.cancel()
    await gateway.idle()
    assert len(triton.user_cancels) == 2
    await gateway.balanced()
    assert await gateway.outcomes() == {"queue_timeout": 1, "shed": 1, "client_closed": 2}


async def queued(gateway: GatewayProcess, length: int) -> bool:
    return (await gateway.status())["queue_length"] == length


async def test_the_queue_is_served_in_order(start: Start, triton: FakeTriton) -> None:
    gateway = await start(max_batch_size=1)
    triton.plan = Plan(stall_after=0)
    held = asyncio.create_task(gateway.chat(seed=0))
    await eventually(lambda: triton.user_submits)
    triton.plan = Plan()
    answers = []

    async def one(number: int) -> None:
        status, _ = await gateway.chat(seed=number)
        answers.append((number, status))

    tasks = []
    for number in range(1, 5):
        tasks.append(asyncio.create_task(one(number)))
        await eventually(lambda number=number: queued(gateway, number))
    held.cancel()
    await asyncio.gather(*tasks)
    assert answers == [(number, 200) for number in range(1, 5)]
    assert [s["sampling"]["seed"] for s in triton.user_submits] == list(range(5))


async def with_headers(gateway: GatewayProcess, headers: dict[str, str], **fields: Any) -> tuple[int, bytes]:
    async with await gateway.post("/v1/chat/completions", {**CHAT, **fields}, headers=headers) as reply:
        return reply.status, await reply.read()


async def test_the_clients_deadline_in_every_phase(start: Start, triton: FakeTriton) -> None:
    gateway = await start(timeouts=LONG, max_batch_size=1)
    deadline = {"x-request-deadline-ms": "2500"}
    triton.plan = Plan(stall_after=0)
    answers = [await with_headers(gateway, deadline)]
    assert 0 < triton.user_submits[0]["deadline_seconds"] <= 2.5, "the engine gets what is left"
    triton.plan = Plan(stall_after=1)
    stream = check_stream((await with_headers(gateway, deadline, stream=True))[1])
    assert stream.text == "The" and stream.error is not None
    answers.append((504, json.dumps({"error": stream.error}).encode()))
    await gateway.idle()
    held = asyncio.create_task(gateway.chat())
    await eventually(lambda: len(triton.user_submits) == 3)
    answers.append(await with_headers(gateway, deadline))
    v2 = {"REQUEST": json.dumps({"text": "What"})}
    async with await gateway.post("/v2/models/llm/generate", v2, headers=deadline) as reply:
        assert reply.status == 504 and "x-request-deadline-ms" in await reply.text()
    for status, body in answers:
        error = json.loads(body)["error"]
        assert (status, error["code"]) == (504, "total_timeout")
        assert "2.5 seconds" in error["message"] and "'x-request-deadline-ms'" in error["message"]
    assert len(triton.user_submits) == 3, "what ran out of time in the queue was never sent"
    for odd in ("0", "soon"):
        status, body = await with_headers(gateway, {"x-request-deadline-ms": odd})
        error = json.loads(body)["error"]
        assert status == 400 and error["param"] == "x-request-deadline-ms"
    held.cancel()
    await gateway.idle()
    await gateway.balanced()


async def test_a_read_timeout_of_the_sdk_shortens_the_idle_limit_only(start: Start, triton: FakeTriton) -> None:
    gateway = await start(timeouts=LONG)
    triton.plan = Plan(first_delay=3.0, stall_after=2)
    status, body = await with_headers(gateway, {"x-stainless-read-timeout": "2"}, stream=True)
    stream = check_stream(body)
    assert status == 200 and stream.text == "The capital" and stream.error is not None
    assert stream.error["code"] == "idle_timeout" and "x-stainless-read-timeout" in stream.error["message"]
    triton.plan = Plan()
    assert (await with_headers(gateway, {"x-stainless-read-timeout": "None"}))[0] == 200
    await gateway.balanced()


async def test_a_gateway_that_runs_late_sheds_unread(start: Start, triton: FakeTriton) -> None:
    gateway = await start()

    async def shed() -> bool:
        """A request that comes while the gateway is stopped is what it sees first when it goes on, late once more."""
        gateway.process.send_signal(signal.SIGSTOP)
        asking = asyncio.create_task(gateway.post("/v1/chat/completions", CHAT))
        await asyncio.sleep(1.3)
        gateway.process.send_signal(signal.SIGCONT)
        async with await asking as reply:
            error = (await reply.json()).get("error")
            if error is not None:
                assert reply.status == 503 and reply.headers["x-should-retry"] == "true"
                assert error["code"] == "server_is_overloaded" and "keep up" in error["message"]
            return error is not None

    await eventually(shed, 120)
    asked = len(triton.user_submits) + 1
    assert asked > 3, "one long pause is no overload"
    assert (await gateway.record(asked))["bytes_in"] == 0, "it was read"
    assert await gateway.metric("localmodel_gateway_shed_by_lag_total") == 1
    await eventually(lambda: answers(gateway))


async def answers(gateway: GatewayProcess) -> bool:
    return (await gateway.chat())[0] == 200


async def test_context_window(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    status, body = await gateway.chat(messages=[{"role": "user", "content": "What " * 600}])
    error = json.loads(body)["error"]
    assert (status, error["code"]) == (400, "context_length_exceeded")
    assert "603 tokens" in error["message"] and "512 tokens" in error["message"]
    status, body = await gateway.chat(max_completion_tokens=511)
    error = json.loads(body)["error"]
    assert (status, error["code"], error["param"]) == (400, "context_length_exceeded", "max_completion_tokens")
    assert not triton.user_submits

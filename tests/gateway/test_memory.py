"""Admission by the engine's memory, what the queue may hold, and slots of requests that can't be cancelled."""

import asyncio
import json

from gateway.conftest import GatewayProcess, Start, eventually
from gateway.fake_triton import FakeTriton, Plan
from gateway.wire import connect, request

V2 = {"REQUEST": json.dumps({"prompt": [5, 6], "sampling": {"max_tokens": 8}})}


async def status_is(gateway: GatewayProcess, **wanted: int) -> bool:
    status = await gateway.status()
    return all(status[name] == value for name, value in wanted.items())


async def complete(gateway: GatewayProcess, tokens: int, **fields: object) -> tuple[int, bytes]:
    """A completion of a prompt of one token that may take `tokens` together."""
    body = {"prompt": [5], "max_tokens": tokens - 1, **fields}
    async with await gateway.post("/v1/completions", body) as reply:
        return reply.status, await reply.read()


async def test_a_dead_engine_keeps_no_slot_of_v2(start: Start, triton: FakeTriton) -> None:
    """Triton leaves the requests of a dead engine open for ever: one whose client left, and one whose client stays."""
    gateway = await start(max_batch_size=2)
    triton.may_generate.clear()
    _, writer = await connect(gateway)
    writer.write(request("/v2/models/llm/generate", json.dumps(V2).encode()))
    await eventually(lambda: len(triton.generates) == 1)
    writer.close()
    await gateway.record()
    staying = asyncio.create_task(gateway.post("/v2/models/llm/generate", V2))
    await eventually(lambda: len(triton.generates) == 2)
    triton.stub_dead = True
    async with await staying as reply:
        assert reply.status == 502 and "Its process ended" in await reply.text(), "it need not wait for its time limit"
    await gateway.idle()
    assert triton.loads == 2
    await gateway.balanced()


async def test_memory_admits_in_order(start: Start, triton: FakeTriton) -> None:
    triton.status = {"kv_tokens_capacity": 100}
    gateway = await start(max_batch_size=8)
    await eventually(lambda: capacity_known(gateway))
    triton.plan = Plan(stall_after=0)
    first = asyncio.create_task(complete(gateway, 60))
    await eventually(lambda: status_is(gateway, slots_in_use=1, tokens_in_use=60))
    large = asyncio.create_task(complete(gateway, 90))
    await eventually(lambda: status_is(gateway, queue_length=1))
    small = asyncio.create_task(complete(gateway, 10))
    await eventually(lambda: status_is(gateway, queue_length=2))
    assert len(triton.user_submits) == 1, "the small one would fit, but the large one came first"
    assert (await gateway.status())["queued_bytes"] > 0
    first.cancel()
    await eventually(lambda: status_is(gateway, slots_in_use=2, tokens_in_use=100, queue_length=0, queued_bytes=0))
    assert 'localmodel_gateway_kv_tokens{kind="reserved"} 100.0' in await gateway.metrics()
    large.cancel()
    small.cancel()
    await gateway.idle()

    status, body = await complete(gateway, 101)
    error = json.loads(body)["error"]
    assert (status, error["code"]) == (400, "context_length_exceeded") and "100" in error["message"]
    triton.plan = Plan()
    async with await gateway.post("/v1/completions", {"prompt": [5] * 10, "max_tokens": 16}) as reply:
        assert reply.status == 200
    async with await gateway.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "What"}]}) as reply:
        assert reply.status == 200, "a chat that leaves its length open takes what there is"
    assert len(triton.user_submits[-1]["prompt"]) + triton.user_submits[-1]["sampling"]["max_tokens"] == 100
    await gateway.balanced()


async def test_choices_that_never_find_room_together_are_not_told_to_come_back(start: Start, triton: FakeTriton) -> None:
    triton.status = {"kv_tokens_capacity": 100}
    gateway = await start(max_batch_size=8, concurrency={"queue": 1})
    await eventually(lambda: capacity_known(gateway))
    fields = {"prompt": [5] * 10, "max_tokens": 40}
    async with await gateway.post("/v1/completions", {**fields, "n": 4}) as reply:
        error = (await reply.json())["error"]
        assert (reply.status, error["param"]) == (400, "n") and "only 3" in error["message"] and "max_tokens" in error["message"]
        assert reply.headers["x-should-retry"] == "false" and "retry-after" not in reply.headers
    for change in ({"n": 3}, {"n": 4, "max_tokens": 15}):
        async with await gateway.post("/v1/completions", {**fields, **change}) as reply:
            assert reply.status == 200, change
    await gateway.balanced()


async def capacity_known(gateway: GatewayProcess, tokens: int = 100) -> bool:
    return f'kv_tokens{{kind="capacity"}} {tokens}.0' in await gateway.metrics()


async def test_the_engine_s_guesses_are_in_the_metrics(start: Start, triton: FakeTriton) -> None:
    triton.status = {"drafted_tokens_total": 9, "accepted_tokens_total": 5}
    gateway = await start()
    counts = {"accepted": 5, "rejected": 4}

    async def told() -> bool:
        text = await gateway.metrics()
        return all(f'drafted_tokens_total{{result="{name}"}} {count}.0' in text for name, count in counts.items())

    await eventually(told)


async def test_the_queue_holds_so_many_bytes(start: Start, triton: FakeTriton) -> None:
    gateway = await start(max_batch_size=1, concurrency={"queue": 64, "queue_bytes": 3_000_000})
    triton.plan = Plan(stall_after=0)
    held = asyncio.create_task(complete(gateway, 10))
    await eventually(lambda: status_is(gateway, slots_in_use=1))
    padding = " " * 1_000_000
    waiting = []
    for length in (1, 2):
        waiting.append(asyncio.create_task(complete(gateway, 10, user=padding)))
        await eventually(lambda length=length: status_is(gateway, queue_length=length))
    status, body = await complete(gateway, 10, user=padding)
    assert (status, json.loads(body)["error"]["code"]) == (503, "server_is_overloaded")
    small = asyncio.create_task(complete(gateway, 10))
    await eventually(lambda: status_is(gateway, queue_length=3))
    for task in (*waiting, small, held):
        task.cancel()
    await gateway.idle()
    assert (await gateway.status())["queued_bytes"] == 0
    assert await gateway.outcomes() == {"shed": 1, "client_closed": 4}
    await gateway.balanced()


async def test_a_v2_client_that_leaves_keeps_its_slot_until_the_engine_is_done(start: Start, triton: FakeTriton) -> None:
    gateway = await start(max_batch_size=1)
    for path in ("/v2/models/llm/generate", "/v2/models/llm/generate_stream"):
        triton.may_generate.clear()
        sent = len(triton.generates)
        _, writer = await connect(gateway)
        writer.write(request(path, json.dumps(V2).encode()))
        await eventually(lambda sent=sent: len(triton.generates) == sent + 1)
        writer.close()
        await eventually(lambda sent=sent: len(gateway.records) == sent // 2 * 2 + 1)
        assert gateway.records[-1]["outcome"] == "client_closed"
        assert await status_is(gateway, slots_in_use=1, tokens_in_use=10), "the engine still runs it"
        waiting = asyncio.create_task(gateway.post(path, V2))
        await eventually(lambda: status_is(gateway, queue_length=1))
        triton.may_generate.set()
        async with await waiting as reply:
            assert reply.status == 200 and "Paris" in await reply.text()
        await gateway.idle()
    assert await gateway.outcomes() == {"client_closed": 2, "ok": 2}
    await gateway.balanced()

"""What the gateway does about a backend that fails: sends again what can be sent again, and stops sending when it is no use."""

import asyncio
import json
from typing import Any

from gateway.conftest import CHAT, GatewayProcess, Start, eventually
from gateway.fake_triton import FakeTriton, Plan
from gateway.invariants import check_stream

DEAD = Plan(reply={"error": "Stub process 'llm_0_0' is not healthy."}, status=400)
BUSY = Plan(reply={"error": "busy"}, status=503)


async def retried(gateway: GatewayProcess) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in (await gateway.metrics()).splitlines():
        if line.startswith("localmodel_gateway_retries_total{"):
            name, value = line.split('result="')[1].split('"} ')
            found[name] = int(float(value))
    return found


def error_of(body: bytes) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(body)["error"]
    return error


async def test_a_death_before_the_first_token_is_not_noticed(start: Start, triton: FakeTriton) -> None:
    """Triton is killed and comes back; a stream and a unary request that waited for their first token are answered."""
    gateway = await start()
    triton.plan = Plan(stall_after=0)
    held = [asyncio.create_task(gateway.chat(stream=stream)) for stream in (True, False)]
    await eventually(lambda: len(triton.accepted_users) == 2)
    triton.plan = Plan()
    await triton.die()
    await asyncio.sleep(0.3)
    await triton.start()
    (status, raw), (unary, body) = await asyncio.gather(*held)
    assert (status, unary) == (200, 200)
    assert check_stream(raw).text == "The capital is Paris."
    assert json.loads(body)["choices"][0]["message"]["content"] == "The capital is Paris."
    assert json.loads(body)["usage"]["completion_tokens"] == 5
    await gateway.record(2)
    assert [record["retries"] for record in gateway.records] == [1, 1]
    assert await retried(gateway) == {"answered": 2, "failed": 0, "no_budget": 0}
    await gateway.idle()
    await gateway.balanced()


async def test_a_dead_stub_and_a_503_are_tried_again(start: Start, triton: FakeTriton) -> None:
    gateway = await start(breaker={"failures": 0})
    for plan in (DEAD, BUSY):
        triton.next_plans = [plan]
        assert (await gateway.chat())[0] == 200
    await gateway.record(2)
    assert [record["retries"] for record in gateway.records] == [1, 1]
    triton.next_plans = [BUSY] * 3
    status, body = await gateway.chat()
    assert (status, error_of(body)["code"]) == (502, "upstream_error")
    assert await retried(gateway) == {"answered": 2, "failed": 1, "no_budget": 1}, "three, and a tenth of few requests"
    await gateway.idle()
    await gateway.balanced()


async def test_a_request_in_the_moment_of_death(start: Start, triton: FakeTriton) -> None:
    """Triton says at once that the engine's process is dead, the supervisor has not noticed yet: the retries wait for it."""
    gateway = await start()
    triton.stub_seconds = 0.0
    triton.stub_dead = True
    status, _ = await gateway.chat()
    assert status == 200
    assert 1 <= (await gateway.record())["retries"] <= 2
    await gateway.idle()
    await gateway.balanced()


async def test_what_is_not_tried_again(start: Start, triton: FakeTriton) -> None:
    gateway = await start(breaker={"failures": 0}, timeouts={"first_token_seconds": 3.0})
    plans = [
        Plan(first_delay=60),
        Plan(reply={"RESPONSE": '{"code": "invalid_request", "message": "no"}'}),
        Plan(reply={"error": "bad luck"}, status=500),
        Plan(texts=(), finish="error", error="CUDA error"),
    ]
    for plan in plans:
        triton.plan = plan
        assert (await gateway.chat())[0] in (400, 502, 504)
    triton.plan = Plan(stall_after=2)
    reply = await gateway.post("/v1/chat/completions", {**CHAT, "stream": True})
    await reply.content.readuntil(b"capital")
    await triton.die()
    assert b"upstream_error" in await reply.read()
    assert len(triton.user_submits) == len(plans) + 1
    assert sum((await retried(gateway)).values()) == 0
    await gateway.record(5)
    assert {record["retries"] for record in gateway.records} == {0}


async def test_the_clients_own_retries_use_up_the_budget(start: Start, triton: FakeTriton) -> None:
    gateway = await start(breaker={"failures": 0})
    for _ in range(4):
        headers = {"x-stainless-retry-count": "1"}
        async with await gateway.post("/v1/chat/completions", CHAT, headers=headers) as reply:
            assert reply.status == 200
    triton.next_plans = [BUSY]
    assert (await gateway.chat())[0] == 502
    assert (await retried(gateway))["no_budget"] == 1
    await gateway.balanced()


async def test_a_backend_that_stays_away_ends_the_wait(start: Start, triton: FakeTriton) -> None:
    gateway = await start(timeouts={"first_token_seconds": 2.0})
    triton.plan = Plan(stall_after=0)
    held = asyncio.create_task(gateway.chat())
    await eventually(lambda: triton.accepted_users)
    await triton.die()
    status, body = await asyncio.wait_for(held, 60)
    assert (status, error_of(body)["code"]) == (502, "upstream_error")
    await gateway.balanced()


async def breaker_is(gateway: GatewayProcess, state: str) -> bool:
    return bool((await gateway.status())["breaker"] == state)


async def test_the_breaker_opens_and_one_probe_closes_it(start: Start, triton: FakeTriton) -> None:
    gateway = await start(breaker={"failures": 3, "open_seconds": 5.0})
    for plan in (Plan(reply={"error": "no"}), Plan(reply={"nothing": 1}), Plan(texts=(), finish="error", error="no")):
        assert await breaker_is(gateway, "closed")
        triton.plan = plan
        assert (await gateway.chat())[0] == 502
    sent = len(triton.user_submits)
    async with await gateway.post("/v1/chat/completions", CHAT) as reply:
        assert reply.status == 503 and reply.headers["x-should-retry"] == "true" and 1 <= int(reply.headers["retry-after"]) <= 5
        assert error_of(await reply.read())["code"] == "circuit_open"
    assert len(triton.user_submits) == sent
    assert 'localmodel_gateway_breaker{state="open"} 1.0' in await gateway.metrics()

    await eventually(lambda: breaker_is(gateway, "half_open"))
    await gateway.ready()  # else nobody would ever be the probe
    triton.plan = Plan(stall_after=0)
    probe = asyncio.create_task(gateway.chat())
    await eventually(lambda: len(triton.user_submits) == sent + 1)
    assert error_of((await gateway.chat())[1])["code"] == "circuit_open", "one probe at a time"
    probe.cancel()
    await gateway.record(6)
    triton.plan = Plan()
    assert (await gateway.chat())[0] == 200, "a probe whose client left makes way for another"
    assert await breaker_is(gateway, "closed")
    assert await gateway.outcomes() == {"upstream_error": 2, "protocol_error": 1, "shed": 2, "client_closed": 1, "ok": 1}
    computed = sum(len(each["prompt"]) for each in triton.user_submits if each["id"] in triton.accepted)
    assert await gateway.metric('localmodel_gateway_tokens_total{kind="prompt"}') == computed, "of seven prompts these three"
    await gateway.record(7)
    assert [record["prompt_tokens"] is None for record in gateway.records] == [True, True, False, True, True, False, False]
    await gateway.idle()
    await gateway.balanced()


async def test_clients_do_not_open_the_breaker(start: Start, triton: FakeTriton) -> None:
    gateway = await start(breaker={"failures": 1, "open_seconds": 60.0})
    triton.plan = Plan(reply={"RESPONSE": '{"code": "invalid_request", "message": "no"}'})
    assert (await gateway.chat())[0] == 400
    for texts in ((), ("{",)):
        triton.plan = Plan(texts=texts, finish="error", error="[SchemaTooComplex] too complex")
        status, body = await gateway.chat(response_format={"type": "json_object"})
        assert (status, error_of(body)["param"]) == (400, "response_format")
    triton.plan = Plan(stall_after=0)
    left = asyncio.create_task(gateway.chat())
    await eventually(lambda: len(triton.user_submits) == 4)
    left.cancel()
    await gateway.record(4)
    assert await breaker_is(gateway, "closed") and (await gateway.status())["ready"]
    canaries = len(triton.submitted) - len(triton.user_submits)
    triton.plan = Plan(reply={"error": "no"})
    assert (await gateway.chat())[0] == 502
    assert await breaker_is(gateway, "open")
    await eventually(lambda: len(triton.submitted) - len(triton.user_submits) > canaries)
    await eventually(lambda: not triton.running)
    assert await gateway.code("/readyz") == 503, "the test request is answered, but users' are not sent"
    status = await gateway.status()
    assert (status["ready"], status["reason"]) == (False, "CircuitOpen") and status["message"]
    await triton.die()
    triton.plan = Plan()
    await triton.start()
    await eventually(lambda: breaker_is(gateway, "closed"))
    await gateway.ready()
    assert (await gateway.chat())[0] == 200, "a new engine starts clean"
    await gateway.balanced()

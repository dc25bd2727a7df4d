"""Answers as users get them: the openai SDK against the gateway process, streamed and not."""

import aiohttp
import openai
import pytest

from gateway.conftest import CHAT, GatewayProcess, Start
from gateway.fake_triton import FakeTriton, Plan
from gateway.invariants import check_stream


def sdk(gateway: GatewayProcess) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0)


async def test_chat_with_the_sdk(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    client = sdk(gateway)
    answer = await client.chat.completions.create(**CHAT, temperature=0, stop=["\n"], seed=7, extra_body={"top_k": 3})
    assert answer.choices[0].message.content == "The capital is Paris."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None and answer.usage.completion_tokens == 5
    sent = triton.user_submits[0]
    assert sent["sampling"] | {"max_tokens": None} == {
        "max_tokens": None, "temperature": 0.0, "top_p": 1.0, "top_k": 3, "seed": 7, "stop": ["\n"], "ignore_eos": False,
        "min_p": 0.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "logit_bias": {}, "logprobs": None, "json_schema": None,
    }  # fmt: skip
    assert sent["sampling"]["max_tokens"] == 512 - len(sent["prompt"])

    stream = await client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "The capital is Paris."
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 5
    assert (await gateway.record(2))["outcome"] == "ok"
    await gateway.balanced()
    await client.close()


async def test_raw_stream_keeps_the_invariants(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    triton.plan = Plan(texts=("Zoë ", "日", "本 \n", "\u2028end", "😀"))
    for usage in (False, True):
        options = {"stream_options": {"include_usage": True}} if usage else {}
        async with await gateway.post("/v1/chat/completions", {**CHAT, "stream": True, **options}) as reply:
            assert reply.headers["content-type"].startswith("text/event-stream")
            assert reply.headers["x-accel-buffering"] == "no" and reply.headers["cache-control"] == "no-cache"
            assert float(reply.headers["x-gateway-overhead-ms"]) >= 0
            stream = check_stream(await reply.read(), usage=usage)
        assert stream.done and stream.text == "Zoë 日本 \n\u2028end😀"
    record = await gateway.record(2)
    assert record["completion_tokens"] == 5 and record["prompt_tokens"] and record["first_token_seconds"] > 0
    assert b"capital" not in gateway.raw_log and "日".encode() not in gateway.raw_log and b"\\u65e5" not in gateway.raw_log


async def test_completions_of_text_and_tokens(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    client = sdk(gateway)
    for prompt, ids in (("What is", [1, 5, 6]), ([5, 6], [5, 6]), (["What is"], [1, 5, 6]), ([[5, 6]], [5, 6])):
        answer = await client.completions.create(model="org/tiny", prompt=prompt)
        assert answer.choices[0].text == "The capital is Paris."
        assert triton.user_submits[-1]["prompt"] == ids
        assert triton.user_submits[-1]["sampling"]["max_tokens"] == 16
    async with await gateway.post("/v1/completions", {"prompt": "What is", "stream": True}) as reply:
        assert check_stream(await reply.read(), chat=False).text == "The capital is Paris."
    with pytest.raises(openai.BadRequestError, match="several prompts"):
        await client.completions.create(model="tiny", prompt=["a", "b"])
    await client.close()


async def test_models(start: Start) -> None:
    gateway = await start()
    client = sdk(gateway)
    assert [m.id async for m in client.models.list()] == ["tiny", "org/tiny"]
    assert (await client.models.retrieve("org/tiny")).id == "org/tiny"
    with pytest.raises(openai.NotFoundError, match="Use one of: tiny, org/tiny"):
        await client.models.retrieve("other")
    await client.close()


async def test_events_cut_at_every_byte(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    triton.split = True
    triton.plan = Plan(texts=("日本", "😀"))
    status, body = await gateway.chat(stream=True)
    assert status == 200 and check_stream(body).text == "日本😀"


async def test_full_mode_has_bodies_and_none_has_nothing(start: Start, triton: FakeTriton) -> None:
    full = await start(log_mode="Full")
    await full.chat()
    record = await full.record()
    assert "capital of France" in record["request_body"] and "Paris" in record["response_body"]
    silent = await start(log_mode="None")
    await silent.chat()
    assert (await silent.outcomes()) == {"ok": 1}
    silent.terminate()
    assert await silent.exit_code() == 0
    assert silent.raw_log == b""


async def test_v2_lets_only_generate_through(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    async with await gateway.post("/v2/models/tiny/generate", {"REQUEST": '{"text": "What", "op": "cancel"}'}) as reply:
        assert reply.status == 200 and "Paris" in await reply.text()
    async with await gateway.post("/v2/models/llm/generate_stream", {"REQUEST": '{"text": "What"}'}) as reply:
        assert (await reply.text()).count("data: ") == 5
    assert [g["op"] for g in triton.generates] == ["generate", "generate"]
    async with await gateway.post("/v2/models/llm/generate", {"REQUEST": '{"op":"submit","token":"x","ids":[]}'}) as reply:
        assert reply.status == 400 and set(await reply.json()) == {"error"}
    for path in ("/v2/models/llm", "/v2/models/tiny/ready", "/v2/health/live"):
        async with gateway.session.get(gateway.url + path) as reply:
            assert reply.status == 200, path
    seen = len(triton.paths)
    told = "Not Found. Use /v2/models/tiny, or /ready, /generate or /generate_stream behind that."
    host = gateway.url.removeprefix("http://")
    for path in ("/v2/repository/index", "//v2/models/llm", "/V2/models/llm", "/v2/models/llm/config", "/v2/models/%6clm",
                 "/v2/models/llm/../llm", "/%76%32/health/live", f"http://{host}//v2/health/live", "/v2/logging"):  # fmt: skip
        status, body = await raw_get(gateway, path)
        assert status == 404 and body == {"error": told}, path
    assert "/v2/repository/index" not in triton.paths[seen:]
    assert (await raw_get(gateway, f"http://{host}/v2/models/llm"))[0] == 200
    await gateway.idle()
    await gateway.balanced()


async def test_a_v2_stream_that_fails_on_its_way_is_no_success(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    triton.plan = Plan(error="CUDA error")
    async with await gateway.post("/v2/models/llm/generate_stream", {"REQUEST": '{"text": "What"}'}) as reply:
        assert reply.status == 200 and (await reply.text()).endswith('data: {"error":"CUDA error"}\n\n')
    record = await gateway.record()
    assert (record["status"], record["outcome"]) == (200, "upstream_error")
    triton.plan = Plan(texts=('data: {"error"', "x"))
    async with await gateway.post("/v2/models/llm/generate_stream", {"REQUEST": '{"text": "What"}'}) as reply:
        await reply.read()
    assert (await gateway.record(2))["outcome"] == "ok", "a text that speaks of errors is none"
    triton.plan = Plan(finish="error", error="boom")
    async with await gateway.post("/v2/models/llm/generate_stream", {"REQUEST": '{"text": "What"}'}) as reply:
        assert "boom" in await reply.text()
    assert (await gateway.record(3))["outcome"] == "upstream_error"


async def test_a_v2_answer_that_the_engine_can_not_complete_is_no_success(start: Start, triton: FakeTriton) -> None:
    gateway = await start(breaker={"failures": 1})
    said = ('"finish_reason":"error"', '","finish_reason":"error","error":"x')
    for number, (plan, stream, outcome) in enumerate(
        (
            (Plan(texts=said), False, "ok"),
            (Plan(texts=said), True, "ok"),
            (Plan(finish="error", error="[SchemaTooComplex] no"), False, "rejected"),
            (Plan(finish="error", error="boom"), False, "upstream_error"),
        ),
        1,
    ):
        triton.plan = plan
        path = "/v2/models/llm/generate_stream" if stream else "/v2/models/llm/generate"
        async with await gateway.post(path, {"REQUEST": '{"text": "What"}'}) as reply:
            assert reply.status == 200 and (plan.error or "finish_reason") in await reply.text()
        assert (await gateway.record(number))["outcome"] == outcome, number
        assert (await gateway.status())["breaker"] == ("open" if outcome == "upstream_error" else "closed")
    await gateway.idle()
    await gateway.balanced()


async def raw_get(gateway: GatewayProcess, target: str) -> tuple[int, object]:
    from gateway.wire import exchange

    status, _, body = await exchange(gateway, f"GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
    return status, body


async def test_ports_do_not_mix(start: Start) -> None:
    gateway = await start()
    for path in ("/livez", "/readyz", "/metrics", "/status", "/livez/backend", "/drain"):
        async with gateway.session.get(gateway.url + path) as reply:
            assert reply.status == 404 and (await reply.json())["error"]["code"] == "unknown_url"
    for path in ("/livez", "/readyz", "/metrics", "/status", "/livez/backend"):
        assert await gateway.code(path) == 200
    assert await gateway.code("/v1/models") == 404
    status = await gateway.status()
    assert status["pod"] == "pod-1" and status["backend"]["engine"]["architecture"] == "Fake" and status["slots"] == 4
    assert 'localmodel_gateway_kv_tokens{kind="used"} 7.0' in await gateway.metrics()


async def test_the_times_of_requests_are_in_the_metrics(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    assert (await gateway.chat(stream=True))[0] == 200
    async with await gateway.post("/v2/models/llm/generate_stream", {"REQUEST": '{"text": "What"}'}) as reply:
        await reply.read()
    await gateway.record(2)
    chat, v2 = gateway.records
    for name, of in (
        ("queue_seconds", (chat, v2)), ("first_token_seconds", (chat, v2)), ("overhead_seconds", (chat, v2)),
        ('request_seconds{endpoint="chat"}', (chat,)), ('request_seconds{endpoint="v2"}', (v2,)),
    ):  # fmt: skip
        kind, _, labels = name.partition("{")
        labels = labels and "{" + labels
        assert await gateway.metric(f"localmodel_gateway_{kind}_count{labels}") == len(of), name
        total = sum(record["total_seconds" if kind == "request_seconds" else kind] for record in of)
        assert await gateway.metric(f"localmodel_gateway_{kind}_sum{labels}") == pytest.approx(total, abs=1e-5), name
    assert await gateway.metric("localmodel_gateway_per_token_seconds_count") == 1
    assert await gateway.metric("localmodel_gateway_loop_lag_seconds") >= 0
    labels = 'gen_ai_operation_name="chat",gen_ai_provider_name="localmodel",gen_ai_request_model="tiny"'
    assert await gateway.metric(f"gen_ai_server_time_to_first_token_seconds_count{{{labels}}}") == 1


async def test_keeps_the_connection(start: Start) -> None:
    gateway = await start()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        for _ in range(3):
            async with session.post(f"{gateway.url}/v1/chat/completions", json=CHAT) as reply:
                assert reply.status == 200

"""Triton and the engine misbehave: refuse, send garbage, hang, die, come back. Requests end with a typed error, probes tell."""

import asyncio
import json
import os
import re
from pathlib import Path
from time import monotonic
from typing import Any

from gateway.conftest import CHAT, GatewayProcess, Start, eventually
from gateway.fake_triton import FakeTriton, Plan
from gateway.invariants import check_stream
from gateway.wire import chat_bytes, connect

FAILURES: list[tuple[dict[str, Any], int, str | None]] = [
    ({"reply": {"error": "out of luck\nTraceback (most recent call last):"}}, 502, "upstream_error"),
    ({"reply": {"error": "no"}, "status": 400}, 502, "upstream_error"),
    ({"reply": {"RESPONSE": "not json"}}, 502, "upstream_protocol_error"),
    ({"reply": {"nothing": 1}}, 502, "upstream_protocol_error"),
    ({"reply": {"RESPONSE": '{"code": "invalid_request", "message": "no such token"}'}}, 400, None),
    ({"reply": {"RESPONSE": '{"code": "overloaded", "message": "full"}'}}, 503, "server_is_overloaded"),
    ({"reply": {"RESPONSE": '{"code": "context_length_exceeded", "message": "long"}'}}, 400, "context_length_exceeded"),
    ({"texts": (), "finish": "error", "error": "CUDA error"}, 502, "upstream_error"),
    ({"texts": (), "finish": "cancelled"}, 502, "upstream_error"),
    ({"texts": (), "finish": "deadline"}, 504, "total_timeout"),
]


async def test_typed_failures_before_the_head(start: Start, triton: FakeTriton) -> None:
    gateway = await start(breaker={"failures": 0})
    for number, (plan, expected_status, code) in enumerate(FAILURES):
        await gateway.ready()
        triton.plan = Plan(**plan)
        status, body = await gateway.chat(stream=number % 2 == 0)
        error = json.loads(body)["error"]
        assert (status, error["code"]) == (expected_status, code), plan
        assert "Traceback" not in error["message"]
    await gateway.idle()
    await gateway.balanced()
    await gateway.record(len(FAILURES))


async def test_failure_after_the_head_is_an_event(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    triton.plan = Plan(finish="error", error="CUDA error")
    status, body = await gateway.chat(stream=True)
    stream = check_stream(body)
    assert status == 200 and stream.error is not None and stream.error["code"] == "upstream_error"
    assert "CUDA error" in stream.error["message"]
    assert (await gateway.record())["outcome"] == "upstream_error"

    reader, writer = await connect(gateway)
    for count in (2, 3):
        writer.write(chat_bytes({**CHAT, "stream": True}))
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n0\r\n\r\n"), 20)
        assert b'data: {"error"' in answer and b"[DONE]" not in answer
        await gateway.record(count)
    writer.close()


async def test_a_failed_request_is_answered_by_a_canary(start: Start, triton: FakeTriton) -> None:
    gateway = await start(timeouts={"first_token_seconds": 1.0})
    canaries = len(triton.submitted)
    triton.plan = Plan(first_delay=60)
    assert (await gateway.chat())[0] == 504
    await eventually(lambda: len(triton.submitted) >= canaries + 2)
    await gateway.ready()


async def test_streams_survive_cuts_and_garbage(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    triton.plan = Plan(texts=tuple(f"{n} " for n in range(100)), gap=0.02)
    streams = [asyncio.create_task(gateway.chat(stream=True)) for _ in range(3)]
    await eventually(lambda: len(triton.user_submits) == 3)
    faults = ("cut", b"data: garbage\n\n", b'data: {"RESPONSE": "[9999, 0, false, [[1, 2]]]"}\n\n')
    for fault in faults:
        opened = triton.paths.count("/v2/models/llm/generate_stream")
        if isinstance(fault, bytes):
            triton.inject.append(fault)
        else:
            triton.cut_streams = 1
        await eventually(lambda opened=opened: triton.paths.count("/v2/models/llm/generate_stream") > opened)
    for status, body in await asyncio.gather(*streams):
        assert status == 200
        assert check_stream(body).text == "".join(f"{n} " for n in range(100))
    cuts = re.findall(r'event_stream_cuts_total\{reason="(\w+)"\} ([1-9])', await gateway.metrics())
    assert sum(int(number) for _, number in cuts) == len(faults) and ("protocol", "2") in cuts


async def test_the_process_dies_and_comes_back(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    triton.plan = Plan(stall_after=2)
    streaming = await gateway.post("/v1/chat/completions", {**CHAT, "stream": True})
    held = asyncio.create_task(gateway.chat())
    await eventually(lambda: [triton.told[each["id"]] for each in triton.user_submits] == [2, 2])
    await triton.die()
    async with asyncio.timeout(60):
        assert check_stream(await streaming.read()).error is not None
        status, unary = await held
    assert status == 502 and json.loads(unary)["error"]["code"] == "upstream_error"
    await eventually(lambda: has_code(gateway, "/readyz", 503))
    assert await gateway.code("/livez") == 200
    await eventually(lambda: has_code(gateway, "/livez/backend", 503))
    assert (await gateway.status())["backend"]["state"] == "Unreachable"
    assert (await gateway.chat())[0] == 503

    triton.plan = Plan()
    loads = triton.loads
    await triton.start()
    await gateway.ready()
    assert triton.loads == loads + 1
    await gateway.idle()
    assert (await gateway.chat())[0] == 200
    await gateway.balanced()


async def has_code(gateway: GatewayProcess, path: str, code: int) -> bool:
    return await gateway.code(path) == code


async def test_the_stub_dies_inside_a_living_triton(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    triton.plan = Plan(stall_after=2)
    streaming = await gateway.post("/v1/chat/completions", {**CHAT, "stream": True})
    triton.stub_dead = True
    stream = check_stream(await streaming.read())
    assert stream.error is not None and stream.error["code"] == "upstream_error"
    await eventually(lambda: "/v2/repository/models/llm/unload" in triton.paths)
    await gateway.ready()
    assert "is not healthy" in (await gateway.status())["backend"]["last_failure"]
    triton.plan = Plan()
    assert (await gateway.chat())[0] == 200
    await gateway.idle()


async def test_the_engines_last_words_reach_the_client_and_the_status(start: Start, triton: FakeTriton) -> None:
    words = "[OutOfMemory] a step of the engine ran out of memory (x); lower maxBatchSize."
    gateway = await start()
    for stream, texts in ((False, ()), (True, ("a ",))):
        triton.plan, triton.last_words = Plan(texts=texts, finish="error", error=words), words
        loads = triton.loads
        status, body = await gateway.chat(stream=stream)
        error = (check_stream(body).error if stream else json.loads(body)["error"]) or {}
        assert (status, error["code"]) == (200 if stream else 502, "engine_out_of_memory")
        assert "lower maxBatchSize" in error["message"] and "[" not in error["message"]
        triton.plan = Plan()
        await eventually(lambda loads=loads: triton.loads == loads + 1)
        await gateway.ready()
        assert (await gateway.status())["backend"]["last_failure"] == words
        assert (await gateway.chat())[0] == 200
    await gateway.idle()
    await gateway.balanced()


async def test_a_hang_is_seen_without_tcp_ending(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    triton.plan = Plan(texts=("a ",) * 100, gap=0.02)
    held = asyncio.create_task(gateway.chat(stream=True))
    await eventually(lambda: triton.user_submits)
    triton.frozen = True
    await eventually(lambda: has_code(gateway, "/readyz", 503))
    assert (await gateway.status())["reason"] == "BackendHung"
    assert await gateway.code("/livez/backend") == 200, "too early to kill it"
    triton.frozen = False
    await gateway.ready()
    stream = check_stream((await held)[1])
    assert stream.done and stream.text == "a " * 100, "a short hang costs no stream"

    triton.frozen = True
    held = asyncio.create_task(gateway.chat(stream=True))
    await eventually(lambda: has_code(gateway, "/livez/backend", 503))
    assert (await held)[0] in (502, 503)
    began = monotonic()
    assert await gateway.code("/drain") == 200
    assert monotonic() - began < 10, "preStop of a liveness kill must not wait"
    assert (await gateway.status())["draining"] is False


async def test_a_step_that_does_not_end(start: Start, triton: FakeTriton) -> None:
    gateway = await start(step_timeout_seconds=1.0)
    triton.step_age = 5.0
    await eventually(lambda: has_code(gateway, "/readyz", 503))
    assert await gateway.code("/livez/backend") == 503
    triton.step_age = 0.0
    await gateway.ready()
    assert await gateway.code("/livez/backend") == 200


async def test_a_failed_load_is_shown_word_for_word(start: Start, triton: FakeTriton) -> None:
    words = "load failed for model 'llm': version 1 is at UNAVAILABLE state: Internal: ModelFilesCorrupt: too short\n"
    triton.load_errors = [words] * 100
    gateway = await start(wait=False)
    await eventually(lambda: state_is(gateway, "LoadFailed"), 90)
    status = await gateway.status()
    assert status["backend"]["message"] == words and status["reason"] == "LoadFailed" and not status["ready"]
    assert await gateway.code("/livez/backend") == 200, "a restart would not help"
    code, body = await gateway.chat()
    error = json.loads(body)["error"]
    assert (code, error["code"]) == (503, "model_not_ready")


async def state_is(gateway: GatewayProcess, state: str) -> bool:
    try:
        return bool((await gateway.status())["backend"]["state"] == state)
    except OSError:
        return False


async def test_a_model_without_tokenizer_is_not_ready(start: Start, triton: FakeTriton, tmp_path: Any) -> None:
    (tmp_path / "empty").mkdir()
    gateway = await start(wait=False, model_path=str(tmp_path / "empty"))
    await eventually(lambda: state_is(gateway, "Ready"), 90)
    status = await gateway.status()
    assert (status["ready"], status["reason"]) == (False, "TokenizerMissing") and "tokenizer.json" in status["message"]


async def test_a_base_model_completes_and_refuses_chats(
    start: Start, triton: FakeTriton, tiny_model: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "tokenizer.json").write_bytes((tiny_model / "tokenizer.json").read_bytes())
    gateway = await start(model_path=str(base))
    status = await gateway.status()
    assert (status["ready"], status["message"]) == (True, "") and "instruction-tuned" in status["chat_problem"]
    code, body = await gateway.chat()
    assert code == 400 and "/v1/completions" in json.loads(body)["error"]["message"]
    async with await gateway.post("/v1/completions", {"prompt": "What is"}) as reply:
        assert reply.status == 200
    await gateway.balanced()


async def test_instances_and_epochs(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    triton.cut_streams = 1
    await eventually(lambda: triton.paths.count("/v2/models/llm/generate_stream") >= 2)
    assert (await gateway.chat())[0] == 200
    first, last = triton.submitted[0], triton.submitted[-1]
    assert first["instance"] == last["instance"] and last["epoch"] == first["epoch"] + 1
    assert len(first["token"]) == 64
    reader, writer = await connect(gateway)
    writer.write(chat_bytes({**CHAT, "stream": True}))
    await reader.readuntil(b"[DONE]")
    writer.close()


async def test_how_far_a_load_is(start: Start, triton: FakeTriton, tmp_path: Path) -> None:
    file = tmp_path / "load-progress.json"
    file.write_text('{"read_bytes": 15000000000, "total_bytes": 15200000000, "seconds": 99}')
    os.utime(file, (1, 1))
    triton.may_load.clear()
    gateway = await start(wait=False)
    await eventually(lambda: has_message(gateway, "The model is being loaded."))
    file.write_text('{"read_bytes": 5000000000, "total_bytes": 15200000000, "seconds": 3.5}')
    await eventually(lambda: has_message(gateway, "The model is being loaded: 30 % of 15.2 GB are read."))
    progress = (await gateway.status())["backend"]["progress"]
    assert progress == {"read_bytes": 5_000_000_000, "total_bytes": 15_200_000_000, "seconds": 3.5}
    file.write_text("half a docu")
    await eventually(lambda: has_message(gateway, "The model is being loaded."))
    triton.may_load.set()
    await gateway.ready()
    assert (await gateway.status())["backend"]["progress"] is None


async def has_message(gateway: GatewayProcess, message: str) -> bool:
    try:
        return bool((await gateway.status())["message"] == message)
    except OSError:
        return False


async def test_a_new_gateway_does_not_load_again(start: Start, triton: FakeTriton) -> None:
    first = await start()
    first.terminate()
    assert await first.exit_code() == 0
    second = await start()
    assert (await second.chat())[0] == 200
    assert triton.loads == 1

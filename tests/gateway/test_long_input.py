"""Chats that are longer than the context window, through the whole gateway: refused, shortened, or read in parts."""

import asyncio
import re
from typing import Any

import openai
import openai.resources.chat
import pytest

from gateway.conftest import GatewayProcess, Start, eventually
from gateway.fake_triton import FakeTriton, Plan
from gateway.invariants import check_stream
from gateway.test_memory import capacity_known

WINDOW = 512
DOCUMENT = " ".join(f"word{number}" + (" ." if number % 10 == 9 else "") for number in range(1500))
ASKED = {"messages": [{"role": "user", "content": f"What is the capital ?\n\n{DOCUMENT}"}], "max_tokens": 30}


async def ask(gateway: GatewayProcess, **fields: Any) -> tuple[int, dict[str, Any], Any]:
    async with await gateway.post("/v1/chat/completions", {**ASKED, **fields}) as reply:
        return reply.status, await reply.json(), reply.headers


def conversation(turns: int) -> list[dict[str, str]]:
    turn = [{"role": "user", "content": "What is the capital of France ? " * 10}, {"role": "assistant", "content": "France"}]
    return [{"role": "system", "content": "capital capital"}, *turn * turns, {"role": "user", "content": "What is France ?"}]


async def test_the_default_refuses(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    status, body, _ = await ask(gateway)
    assert (status, body["error"]["code"]) == (400, "context_length_exceeded")
    assert not triton.user_submits


async def test_truncate_leaves_out_the_oldest_turns_and_says_so(start: Start, triton: FakeTriton) -> None:
    gateway = await start(long_input="Truncate")
    messages = conversation(10)
    status, body, headers = await ask(gateway, messages=messages)
    assert status == 200
    sent = triton.user_submits[0]
    left_out = body["usage"]["truncated_tokens"]
    assert left_out > 200 and headers["x-localmodel-truncated-tokens"] == str(left_out)
    assert len(sent["prompt"]) + 30 <= WINDOW and body["usage"]["prompt_tokens"] == len(sent["prompt"])
    tokens = " ".join(map(str, sent["prompt"]))
    assert tokens.startswith("1 2 8 8"), "the system message stays"
    assert tokens.endswith("1 3 5 6 10 11 4"), "so does the last turn"
    record = await gateway.record()
    assert record["truncated_tokens"] == left_out and record["prompt_tokens"] == len(sent["prompt"])
    assert await gateway.metric("localmodel_gateway_truncated_tokens_total") == left_out
    options = {"stream": True, "stream_options": {"include_usage": True}}
    async with await gateway.post("/v1/chat/completions", {**ASKED, "messages": messages, **options}) as reply:
        assert reply.headers["x-localmodel-truncated-tokens"] == str(left_out)
        stream = check_stream(await reply.read(), usage=True)
    assert stream.usage is not None and stream.usage["truncated_tokens"] == left_out
    status, body, headers = await ask(gateway, messages=conversation(1))
    assert status == 200 and "truncated_tokens" not in body["usage"] and "x-localmodel-truncated-tokens" not in headers
    await gateway.balanced()


async def test_an_engine_that_holds_less_than_the_window_sets_the_room(start: Start, triton: FakeTriton) -> None:
    triton.status = {"kv_tokens_capacity": 200}
    gateway = await start(long_input="Truncate")
    await eventually(lambda: capacity_known(gateway, 200))
    status, body, _ = await ask(gateway, messages=conversation(10))
    assert status == 200 and body["usage"]["truncated_tokens"] > 200
    assert 100 < len(triton.user_submits[0]["prompt"]) <= 170


async def test_a_document_is_read_in_parts(start: Start, triton: FakeTriton) -> None:
    gateway = await start(long_input="Segment")
    client = openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0)
    await gateway.ready()
    answer = await client.chat.completions.create(model="tiny", **ASKED)
    assert answer.choices[0].message.content == "The capital is Paris." and answer.usage is not None
    segments = answer.usage.model_extra["segments"] if answer.usage.model_extra else 0
    *parts, last = triton.user_submits
    assert len(parts) == segments > 3
    for part in parts:
        assert len(part["prompt"]) + part["sampling"]["max_tokens"] <= WINDOW
        assert part["prompt"][:7] == [1, 3, 5, 6, 7, 8, 11], "each part comes with the question"
    assert last["sampling"]["max_tokens"] == 30 and last["prompt"][:7] == [1, 3, 5, 6, 7, 8, 11]
    assert answer.usage.prompt_tokens == sum(len(each["prompt"]) for each in triton.user_submits)
    assert answer.usage.completion_tokens == 5 * (segments + 1)
    record = await gateway.record()
    assert (record["segments"], record["outcome"]) == (segments, "ok")
    assert (record["prompt_tokens"], record["completion_tokens"]) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)
    assert await gateway.metric("localmodel_gateway_segments_total") == segments
    short = await client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "What is France ?"}])
    assert short.usage is not None and not short.usage.model_extra, "what fits is never touched"
    await client.close()
    await gateway.balanced()


async def test_the_stream_begins_with_the_first_part_and_is_one_answer(start: Start, triton: FakeTriton) -> None:
    gateway = await start(long_input="Segment", concurrency={"max": 2})
    triton.plan = Plan(gap=0.15)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    async with await gateway.post("/v1/chat/completions", {**ASKED, **options}) as reply:
        assert reply.status == 200 and int(reply.headers["x-localmodel-segments"]) > 3
        opening = await reply.content.readany()
        assert b'"role": "assistant"' in opening
        begun = len(triton.user_submits)
        assert begun < int(reply.headers["x-localmodel-segments"]), "the head does not wait for all parts"
        stream = check_stream(opening + await reply.read(), usage=True)
    assert stream.done and stream.text == "The capital is Paris."
    assert stream.usage is not None and stream.usage["segments"] == int(reply.headers["x-localmodel-segments"])
    await gateway.balanced()


async def test_a_document_that_is_being_read_is_read_to_its_end_in_a_drain(start: Start, triton: FakeTriton) -> None:
    gateway = await start(long_input="Segment", max_batch_size=2)
    triton.plan = Plan(texts=("a ",) * 10, gap=0.05)
    reading = asyncio.create_task(ask(gateway))
    await eventually(lambda: triton.user_submits)
    gateway.terminate()
    status, body, _ = await reading
    assert status == 200 and body["usage"]["segments"] > 2, body
    assert await gateway.exit_code() == 0


async def test_many_long_answers_are_joined_in_rounds(start: Start, triton: FakeTriton) -> None:
    gateway = await start(long_input="Segment")
    triton.plan = Plan(texts=("France ",) * 30, gap=0.001, finish="length")
    document = " ".join(f"word{number} ." for number in range(2500))
    status, body, _ = await ask(gateway, messages=[{"role": "user", "content": document}])
    assert status == 200
    segments = body["usage"]["segments"]
    calls = len(triton.user_submits)
    assert segments > 10 and calls > segments + 2, "more than one round of joining"
    for sent in triton.user_submits:
        assert len(sent["prompt"]) + sent["sampling"]["max_tokens"] <= WINDOW
    assert body["usage"]["completion_tokens"] == 30 * calls
    await gateway.balanced()


async def test_one_document_leaves_room_for_others(start: Start, triton: FakeTriton) -> None:
    gateway = await start(long_input="Segment")
    triton.plan = Plan(gap=0.2)
    reading = asyncio.create_task(ask(gateway))
    await eventually(lambda: len(triton.running) == 2)
    most = 0
    for _ in range(4):
        status, body, _ = await ask(gateway, messages=[{"role": "user", "content": "What is France ?"}])
        assert status == 200 and "segments" not in body["usage"]
        most = max(most, len(triton.running))
    assert most <= 2, "half of the four slots"
    assert (await reading)[0] == 200
    await gateway.balanced()


async def test_who_leaves_ends_all_parts(start: Start, triton: FakeTriton) -> None:
    gateway = await start(long_input="Segment")
    triton.plan = Plan(texts=("word",) * 1000, gap=0.05)
    leaving = asyncio.create_task(ask(gateway))
    await eventually(lambda: len(triton.running) == 2)
    leaving.cancel()
    await eventually(lambda: not triton.running)
    await gateway.idle()
    sent = len(triton.user_submits)
    assert (await gateway.record())["outcome"] == "client_closed"
    await asyncio.sleep(0.3)
    assert len(triton.user_submits) == sent == len(triton.user_cancels), "nothing is begun for nobody"
    await gateway.balanced()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failed_part_ends_the_answer_with_its_error(start: Start, triton: FakeTriton, stream: bool) -> None:
    gateway = await start(long_input="Segment", retries={"attempts": 0})
    triton.plan = Plan(gap=0.2)
    asking = asyncio.create_task(gateway.chat(**ASKED, stream=stream))
    await eventually(lambda: len(triton.user_submits) == 4)
    triton.plan = Plan(texts=("a",), finish="error", error="The engine broke.")
    status, body = await asking
    if stream:
        told = check_stream(body)
        assert status == 200 and told.error is not None and told.error["code"] == "upstream_error"
    else:
        assert status == 502 and b"The engine broke" in body
    await gateway.idle()
    record = await gateway.record()
    assert record["outcome"] == "upstream_error" and record["segments"] > 3
    await gateway.balanced()


async def test_each_part_has_the_time_limits_of_a_request(start: Start, triton: FakeTriton) -> None:
    limits = {"first_token_seconds": 3.0, "total_seconds": 60}
    gateway = await start(long_input="Segment", timeouts=limits, concurrency={"max": 1})
    triton.plan = Plan(first_delay=1.0)
    status, body, _ = await ask(gateway)
    assert status == 200 and body["usage"]["segments"] > 3, "together they take longer than one may wait for its first token"
    triton.plan = Plan(first_delay=60)
    status, body, _ = await ask(gateway)
    assert (status, body["error"]["code"]) == (504, "first_token_timeout")
    await gateway.idle()
    await gateway.balanced()


async def test_a_document_is_charged_for_all_its_calls(start: Start, triton: FakeTriton) -> None:
    gateway = await start(long_input="Segment", limits=[{"key": "*", "tpm": 6000}])
    status, body, headers = await ask(gateway)
    assert status == 200
    reserved = 6000 - int(headers["x-ratelimit-remaining-tokens"])
    used = body["usage"]["total_tokens"]
    assert used <= reserved < 3 * used
    _, _, headers = await ask(gateway, messages=[{"role": "user", "content": "What is France ?"}])
    assert 6000 - used - 60 < int(headers["x-ratelimit-remaining-tokens"]) < 6000 - used
    status, body, _ = await ask(gateway, messages=[{"role": "user", "content": DOCUMENT * 4}])
    needed = int(re.findall(r"may use (\d+) tokens", body["error"]["message"])[0])
    assert status == 429 and needed > 6000
    await gateway.balanced()

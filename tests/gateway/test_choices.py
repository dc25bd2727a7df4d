"""OpenAI's parameters through the whole gateway: several choices, log-probabilities, echo, JSON, tool calls."""

import asyncio
import json
from pathlib import Path
from typing import Any

from openai.types import Completion
from openai.types.chat import ChatCompletion
from openai.types.chat.chat_completion import Choice

from gateway.conftest import CHAT, GatewayProcess, Start, eventually
from gateway.fake_triton import FakeTriton, Plan
from gateway.invariants import Stream, check_stream
from gateway.tiny_model import write_tiny_model

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}}}}
CALL = '{"name": "f", "arguments": {"x": 1}}'
HERMES = (
    "{% if tools %}Call as <tool_call>{\"name\": n, \"arguments\": a}</tool_call>: {{ tools | tojson }}{% endif %}"
    "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}"
)  # fmt: skip


async def answered(gateway: GatewayProcess, **fields: Any) -> Choice:
    """The one choice, as the SDK's types see it. The SDK itself stalls the scripted Triton's event loop when it is first used."""
    status, raw = await gateway.chat(**fields)
    assert status == 200, raw
    (choice,) = ChatCompletion.model_validate_json(raw).choices
    return choice


async def streamed(gateway: GatewayProcess, path: str = "/v1/chat/completions", **fields: Any) -> Stream:
    choices = fields.get("n", 1)
    body = {"stream": True, "stream_options": {"include_usage": True}, **fields}
    async with await gateway.post(path, body) as reply:
        assert reply.status == 200, await reply.text()
        return check_stream(await reply.read(), chat="chat" in path, usage=True, choices=choices)


async def refused(gateway: GatewayProcess, **fields: Any) -> dict[str, Any]:
    status, body = await gateway.chat(**fields)
    assert status == 400, body
    error: dict[str, Any] = json.loads(body)["error"]
    return error


async def test_each_choice_has_its_own_slot_seed_and_end(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    plans = [Plan(texts=("a",) * 3, gap=0.02), Plan(texts=("b",) * 9, finish="length"), Plan(texts=("c",) * 6)]
    for stream in (False, True):
        triton.next_plans = list(plans)
        if stream:
            answer = await streamed(gateway, **CHAT, n=3, seed=5)
            texts, finishes, usage = answer.texts, answer.finish_reasons, answer.usage
        else:
            status, raw = await gateway.chat(n=3, seed=5)
            document = json.loads(raw)
            assert status == 200 and [c["index"] for c in document["choices"]] == [0, 1, 2]
            texts = {c["index"]: c["message"]["content"] for c in document["choices"]}
            finishes = {c["index"]: c["finish_reason"] for c in document["choices"]}
            usage = document["usage"]
        assert sorted(texts.values()) == ["aaa", "b" * 9, "cccccc"]
        assert {finishes[index] for index, text in texts.items() if text[0] == "b"} == {"length"}
        prompt = len(triton.user_submits[0]["prompt"])
        assert usage == {"prompt_tokens": prompt, "completion_tokens": 18, "total_tokens": prompt + 18}
    assert sorted(s["sampling"]["seed"] for s in triton.user_submits) == [5, 5, 6, 6, 7, 7]
    record = await gateway.record(2)
    assert record["completion_tokens"] == 18 and record["outcome"] == "ok"
    await gateway.idle()
    await gateway.balanced()


async def test_choices_are_submitted_together_and_refused_one_by_one(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    refusal = {"code": "context_length_exceeded", "message": "too long"}
    triton.next_plans = [Plan(), Plan(refusal=refusal), Plan(texts=("a",) * 99, gap=0.1)]
    error = await refused(gateway, n=3)
    assert error["code"] == "context_length_exceeded"
    together = triton.submits[-1]
    assert len(together) == 3 and together[1] not in triton.accepted
    assert together[0] in triton.accepted and together[2] in triton.accepted
    await eventually(lambda: together[2] in triton.cancelled)
    await gateway.idle()


async def test_choices_stand_in_the_queue_together(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    triton.plan = Plan(gap=0.05)
    first, second = gateway.chat(n=3), gateway.chat(n=4)
    answers = await asyncio.gather(first, second)
    assert [status for status, _ in answers] == [200, 200]
    assert [len(json.loads(body)["choices"]) for _, body in answers] == [3, 4]
    error = await refused(gateway, n=5)
    assert error["param"] == "n" and "4 answers at a time" in error["message"]
    await gateway.idle()


async def test_a_choice_that_fails_ends_the_answer(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    triton.next_plans = [
        Plan(texts=("a",) * 500),
        Plan(texts=("b",) * 500),
        Plan(texts=("c",) * 3, finish="error", error="broken"),
    ]
    async with await gateway.post("/v1/chat/completions", {**CHAT, "n": 3, "stream": True}) as reply:
        stream = check_stream(await reply.read(), choices=3)
    assert stream.error is not None and "broken" in stream.error["message"]
    await gateway.idle()
    await eventually(lambda: len(triton.user_cancels) == 2)
    triton.next_plans = [Plan(texts=("a",) * 3, finish="error", error="broken")]
    status, _ = await gateway.chat(n=2)
    assert status == 502
    await gateway.idle()
    await gateway.balanced()


async def test_a_client_that_leaves_ends_all_choices(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    triton.plan = Plan(stall_after=1)
    async with await gateway.post("/v1/chat/completions", {**CHAT, "n": 4, "stream": True}) as reply:
        await reply.content.readany()
        await eventually(lambda: len(triton.running) == 4)
    await eventually(lambda: len(triton.user_cancels) == 4)
    await gateway.idle()
    assert (await gateway.record())["outcome"] == "client_closed"


async def test_logprobs_of_both_endpoints(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    _, raw = await gateway.chat(logprobs=True, top_logprobs=2)
    content = ChatCompletion.model_validate_json(raw, strict=True).choices[0].logprobs.content  # type: ignore[union-attr]
    assert content is not None and len(content) == 5
    assert (content[1].token, content[1].logprob, content[1].bytes) == ("What", -0.5, list(b"What"))
    assert [top.token for top in content[1].top_logprobs] == ["What", "is"]
    assert triton.user_submits[-1]["sampling"]["logprobs"] == 2
    stream = await streamed(gateway, **CHAT, logprobs=True)
    assert [row["token"] for row in stream.logprobs[0]] == ["What"] * 5 and stream.logprobs[0][0]["top_logprobs"] == []
    async with await gateway.post("/v1/completions", {"prompt": "What", "logprobs": 1}) as reply:
        old = Completion.model_validate_json(await reply.read(), strict=True).choices[0].logprobs
    assert old is not None and old.tokens == ["What"] * 5 and old.text_offset == [0, 4, 8, 12, 16]
    assert old.top_logprobs is not None and old.top_logprobs[1] == {"What": -0.5}
    stream = await streamed(gateway, "/v1/completions", prompt="What", logprobs=0)
    assert stream.logprobs[0] == ["What"] * 5


async def test_echo(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    for prompt in ("What is ", [5, 6]):
        async with await gateway.post("/v1/completions", {"prompt": prompt, "echo": True, "n": 2}) as reply:
            whole = [choice["text"] for choice in (await reply.json())["choices"]]
        stream = await streamed(gateway, "/v1/completions", prompt=prompt, echo=True, n=2)
        shown = prompt if isinstance(prompt, str) else "What is"
        assert whole == [shown + "The capital is Paris."] * 2 == list(stream.texts.values())


async def test_json_is_asked_of_the_engine_and_its_refusal_names_the_field(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    triton.plan = Plan(texts=("{", "}"))
    schema = {"type": "object", "properties": {"größe": {"type": "integer"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}}
    status, _ = await gateway.chat(response_format=wanted)
    assert status == 200 and json.loads(triton.user_submits[-1]["sampling"]["json_schema"]) == schema
    refusal = {"RESPONSE": json.dumps({"code": "invalid_request", "message": "'pattern' can't be enforced."})}
    triton.plan = Plan(reply=refusal)
    for n in (1, 2):
        error = await refused(gateway, response_format=wanted, n=n)
        assert error["param"] == "response_format" and "pattern" in error["message"]
    assert (await refused(gateway))["param"] is None
    triton.plan = Plan(texts=("{",), finish="error", error="[SchemaTooComplex] too complex")
    stream = await streamed(gateway, **CHAT, response_format=wanted)
    assert stream.text == "{" and stream.error and stream.error["param"] == "response_format"
    await gateway.idle()


async def test_tool_calls(start: Start, triton: FakeTriton, tmp_path: Path) -> None:
    model = tmp_path / "with-tools"
    model.mkdir()
    write_tiny_model(model)
    (model / "chat_template.jinja").write_text(HERMES)
    gateway = await start(model_path=str(model))
    triton.plan = Plan(texts=("Well.", "\n<tool", "_call>", CALL, "</tool_call>", f"\n<tool_call>{CALL}</tool_call>"))
    choice = await answered(gateway, tools=[TOOL])
    assert choice.finish_reason == "tool_calls" and choice.message.content == "Well."
    assert [call.function.name for call in choice.message.tool_calls or []] == ["f", "f"]  # type: ignore[union-attr]
    stream = await streamed(gateway, **CHAT, tools=[TOOL], n=2)
    for index in range(2):
        assert stream.texts[index] == "Well." and stream.finish_reasons[index] == "tool_calls"
        assert [json.loads(call["function"]["arguments"]) for call in stream.tool_calls[index]] == [{"x": 1}] * 2
    stream = await streamed(gateway, **CHAT, tools=[TOOL], parallel_tool_calls=False)
    assert len(stream.tool_calls[0]) == 1
    assert triton.user_submits[-1]["sampling"]["stop"] == ["</tool_call>"]

    triton.plan = Plan(texts=(CALL[:9], CALL[9:]))
    choice = await answered(gateway, tools=[TOOL], tool_choice={"type": "function", "function": {"name": "f"}})
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    schema = json.loads(triton.user_submits[-1]["sampling"]["json_schema"])
    assert schema["properties"]["name"] == {"const": "f"}
    called = json.loads(choice.message.model_dump_json())
    history = [*CHAT["messages"], called, {"role": "tool", "tool_call_id": "x", "content": "1"}]
    triton.plan = Plan()
    assert (await answered(gateway, messages=history, tools=[TOOL])).message.content == "The capital is Paris."


async def test_tools_are_refused_where_the_template_has_none(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    error = await refused(gateway, tools=[TOOL])
    assert (error["code"], error["param"]) == ("unsupported_parameter", "tools")
    status, _ = await gateway.chat(tools=[TOOL], tool_choice="none")
    assert status == 200
    triton.task = "Embedding"

    async def task() -> bool:
        return bool((await gateway.status())["backend"]["engine"]["task"] == "Embedding")

    await eventually(task)
    error = await refused(gateway)
    assert (error["code"], error["param"]) == ("model_task_mismatch", "model") and "/v1/embeddings" in error["message"]

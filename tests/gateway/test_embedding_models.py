"""/v1/embeddings through the whole gateway: ready by evidence of its own, batches, encodings, failures and clients that leave."""

import asyncio
import base64
import json
import struct
from pathlib import Path
from typing import Any

from gateway.conftest import CHAT, GatewayProcess, Start, eventually
from gateway.fake_triton import FakeTriton, Plan
from gateway.tiny_model import write_tiny_model


async def begin(start: Start, triton: FakeTriton, **settings: Any) -> GatewayProcess:
    triton.task = "Embedding"
    return await start(task="Embedding", **settings)


async def embed(gateway: GatewayProcess, **fields: Any) -> tuple[int, Any]:
    async with await gateway.post("/v1/embeddings", fields) as reply:
        return reply.status, await reply.json()


async def test_vectors_in_order_and_in_batches(start: Start, triton: FakeTriton) -> None:
    gateway = await begin(start, triton)
    assert not triton.submitted or (await gateway.status())["ready"]
    canaries = len(triton.embeds)
    assert canaries >= 1, "readiness is the answer to a request for a vector"
    texts = ["What", "What is", [5, 6, 7], "the capital"]
    status, answer = await embed(gateway, model="tiny", input=texts)
    assert status == 200 and answer["model"] == "tiny" and answer["object"] == "list"
    assert [row["index"] for row in answer["data"]] == [0, 1, 2, 3]
    assert [row["embedding"] for row in answer["data"]] == [[2.0, 6.0, 0.5], [3.0, 12.0, 0.5], [3.0, 18.0, 0.5], [3.0, 16.0, 0.5]]
    assert answer["usage"] == {"prompt_tokens": 11, "total_tokens": 11}
    status, packed = await embed(gateway, input="What", encoding_format="base64", dimensions=3)
    assert struct.unpack("<3f", base64.b64decode(packed["data"][0]["embedding"])) == (2.0, 6.0, 0.5)
    status, many = await embed(gateway, input=[[number] for number in range(1, 12)] * 15)
    assert [row["embedding"][1] for row in many["data"]] == [float(number) for number in range(1, 12)] * 15
    assert [len(each["inputs"]) for each in triton.embeds[-3:]] == [64, 64, 37]
    record = await gateway.record(3)
    assert (record["endpoint"], record["outcome"], record["prompt_tokens"]) == ("embeddings", "ok", 165)
    await gateway.idle()
    await gateway.balanced()


async def test_it_needs_no_chat_template(start: Start, triton: FakeTriton, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (write_tiny_model(tmp_path / "model") / "tokenizer_config.json").unlink()
    gateway = await begin(start, triton, model_path=str(tmp_path / "model"))
    assert (await embed(gateway, input="What"))[0] == 200
    assert (await gateway.status())["chat_problem"] == ""


async def test_refusals(start: Start, triton: FakeTriton) -> None:
    gateway = await begin(start, triton)
    for fields, code, param in (
        ({"input": "What", "dimensions": 2}, "unsupported_parameter", "dimensions"),
        ({"input": ["a", [5] * 513]}, "context_length_exceeded", "input[1]"),
        ({"input": ""}, None, "input"),
    ):
        status, answer = await embed(gateway, **fields)
        assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, code, param)
    status, body = await gateway.chat()
    assert status == 400 and json.loads(body)["error"]["code"] == "model_task_mismatch"
    async with gateway.session.get(f"{gateway.url}/v1/embeddings") as reply:
        assert reply.status == 405 and reply.headers["allow"] == "POST"
    assert (await gateway.status())["slots_in_use"] == 0


async def test_a_language_model_makes_no_vectors(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    status, answer = await embed(gateway, input="What")
    assert (status, answer["error"]["code"]) == (400, "model_task_mismatch") and "/v1/chat" in answer["error"]["message"]
    assert triton.embeds == [] and (await gateway.chat(**CHAT))[0] == 200


async def test_failures_have_a_status_and_give_the_slot_back(start: Start, triton: FakeTriton) -> None:
    gateway = await begin(start, triton)
    refusal = {"code": "context_length_exceeded", "message": "too long"}
    for reply, status, code in (
        ({"RESPONSE": json.dumps(refusal)}, 400, "context_length_exceeded"),
        ({"RESPONSE": json.dumps({"vectors": [], "dimensions": 3})}, 502, "upstream_protocol_error"),
        ({"RESPONSE": json.dumps({"vectors": ["!"], "dimensions": 3})}, 502, "upstream_protocol_error"),
        ({"error": "it broke"}, 502, "upstream_error"),
    ):
        triton.plan = Plan(reply=reply)
        got, answer = await embed(gateway, input="What")
        assert (got, answer["error"]["code"]) == (status, code)
    triton.plan = Plan()
    await gateway.ready()
    assert (await embed(gateway, input="What"))[0] == 200
    await gateway.idle()
    await gateway.balanced()


async def test_an_engine_that_dies_leaves_no_request_waiting(start: Start, triton: FakeTriton) -> None:
    """Triton leaves the requests of a dead engine open."""
    gateway = await begin(start, triton)
    triton.plan = Plan(accept_delay=60.0)
    asked = asyncio.create_task(embed(gateway, input="What"))
    await eventually(lambda: any(request["inputs"] != [[1]] for request in triton.embeds))
    triton.plan = Plan()
    triton.stub_dead = True
    status, body = await asyncio.wait_for(asked, 60)
    assert status == 200 and len(body["data"]) == 1
    assert (await gateway.record())["retries"] <= 1
    await gateway.idle()


async def test_a_client_that_leaves_has_its_batch_cancelled(start: Start, triton: FakeTriton) -> None:
    gateway = await begin(start, triton)
    before = len(triton.embeds)
    triton.plan = Plan(accept_delay=60.0)
    triton.may_cancel.clear()
    leaving = asyncio.create_task(embed(gateway, input=["What"] * 200))
    await eventually(lambda: len(triton.embeds) > before)
    leaving.cancel()
    record = await gateway.record()
    assert (record["outcome"], record["prompt_tokens"]) == ("client_closed", 2 * 64)
    assert (await gateway.status())["slots_in_use"] == 1, "the engine still works for it"
    triton.may_cancel.set()
    await gateway.idle()
    assert len(triton.embeds) == before + 1 and not triton.embedding
    assert triton.cancelled == [triton.embeds[-1]["id"]]
    await gateway.balanced()


async def test_a_batch_that_is_late_is_cancelled(start: Start, triton: FakeTriton) -> None:
    gateway = await begin(start, triton, timeouts={"first_token_seconds": 0.3})
    triton.plan = Plan(accept_delay=60.0)
    status, answer = await embed(gateway, input="What")
    assert (status, answer["error"]["code"]) == (504, "first_token_timeout")
    await gateway.idle()
    assert not triton.embedding, "the engine does not go on"
    triton.plan = Plan(accept_delay=60.0)
    async with await gateway.post("/v1/embeddings", {"input": "What"}, headers={"x-request-deadline-ms": "200"}) as reply:
        assert (reply.status, (await reply.json())["error"]["code"]) == (504, "total_timeout")
    await gateway.idle()
    assert not triton.embedding
    await gateway.balanced()

"""API keys and limits at the gateway's door: who is let in, what they may use, and that a change of keys needs no restart."""

import asyncio
from pathlib import Path
from typing import Any

import openai
import openai.resources.chat
import pytest

from gateway.conftest import CHAT, GatewayProcess, Start, eventually
from gateway.fake_triton import FakeTriton, Plan
from gateway.invariants import check_stream
from localmodel.api.keys import format_hash

KEY = "lm-the-key-of-team-a"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    directory = tmp_path / "keys"
    directory.mkdir()
    (directory / "team-a").write_text(format_hash(KEY))
    return directory


def bearer(key: str = KEY) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def ask(gateway: GatewayProcess, key: str = KEY, **fields: Any) -> tuple[int, dict[str, Any], Any]:
    async with await gateway.post("/v1/chat/completions", {**CHAT, **fields}, headers=bearer(key)) as reply:
        return reply.status, await reply.json(), reply.headers


async def get(gateway: GatewayProcess, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any, Any]:
    async with gateway.session.get(gateway.url + path, headers=headers) as reply:
        return reply.status, await reply.json(), reply.headers


async def test_without_a_good_key_nothing_is_answered(start: Start, triton: FakeTriton, keys: Path) -> None:
    gateway = await start(keys_directory=str(keys))
    wrong = ["", "Bearer ", "Bearer lm-wrong", f"Basic {KEY}"]
    for headers in ({}, *({"authorization": value} for value in wrong)):
        for path in ("/v1/models", "/v1/nowhere", "/v1/chat/completions"):
            status, body, sent = await get(gateway, path, headers)
            assert (status, body["error"]["code"]) == (401, "invalid_api_key"), path
            assert sent["www-authenticate"].startswith("Bearer") and sent["x-should-retry"] == "false"
        async with await gateway.post("/v1/chat/completions", [1], headers=headers) as reply:
            assert reply.status == 401, "the key comes before the body"
        for path in ("/v2/models/tiny", "/v2/health/live", "/v2/repository/index"):
            status, body, _ = await get(gateway, path, headers)
            assert status == 401 and set(body) == {"error"} and isinstance(body["error"], str)
    assert not triton.user_submits and (await gateway.outcomes()) == {"unauthorized": 35}
    assert (await gateway.code("/readyz"), await gateway.code("/metrics")) == (200, 200), "the admin port is no user's"


async def test_with_a_key_the_sdk_works_and_the_record_has_its_name(start: Start, triton: FakeTriton, keys: Path) -> None:
    gateway = await start(keys_directory=str(keys), log_mode="Full")
    client = openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0)
    assert [m.id async for m in client.models.list()] == ["tiny", "org/tiny"]
    await gateway.ready()
    assert (await client.chat.completions.create(**CHAT)).choices[0].message.content == "The capital is Paris."
    assert (await get(gateway, "/v1/nowhere", bearer()))[0] == 404
    async with gateway.session.get(f"{gateway.url}/v2/health/live", headers=bearer()) as reply:
        assert reply.status == 200
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="lm-wrong").models.list()
    await eventually(lambda: len(gateway.records) == 5)
    assert [record["key"] for record in gateway.records] == ["team-a"] * 4 + [None]
    assert KEY.encode() not in gateway.raw_log and b"lm-wrong" not in gateway.raw_log
    assert KEY not in await gateway.metrics() and "team-a" not in await gateway.metrics()
    await gateway.balanced()
    await client.close()


async def test_keys_change_without_a_restart_and_running_streams_go_on(start: Start, triton: FakeTriton, keys: Path) -> None:
    gateway = await start(keys_directory=str(keys))
    triton.plan = Plan(texts=tuple("abcdefgh"), gap=0.6)
    async with await gateway.post("/v1/chat/completions", {**CHAT, "stream": True}, headers=bearer()) as running:
        assert running.status == 200
        (keys / "team-a").write_text(f"{format_hash(KEY)}\n{format_hash('lm-new')}\n")

        async def admitted(key: str) -> bool:
            return (await get(gateway, "/v1/models", bearer(key)))[0] == 200

        await eventually(lambda: admitted("lm-new"))
        assert await admitted(KEY), "both are good while clients change over"
        (keys / "team-a").write_text(format_hash("lm-new"))

        async def gone() -> bool:
            return not await admitted(KEY)

        await eventually(gone)
        assert check_stream(await running.read()).text == "abcdefgh"
    assert await admitted("lm-new")
    await gateway.balanced()


async def test_a_bad_entry_is_told_while_good_keys_work(start: Start, triton: FakeTriton, keys: Path) -> None:
    (keys / "team-b").write_text("lm-somebody-put-a-key-here")
    limits = [{"key": "team-c", "rpm": 1}, {"key": "*", "models": ["other"]}, {"key": "team-a", "rpm": 9}]
    gateway = await start(keys_directory=str(keys), limits=limits)
    status = await gateway.status()
    assert status["ready"] and status["reason"] == "Ready"
    for told in ("'team-b': line 1 is no hash", "localmodel key create team-b", "'team-c', but there is no such key",
                 "'other', which is not served"):  # fmt: skip
        assert told in status["keys_problem"]
    assert "somebody" not in status["keys_problem"]
    assert (await ask(gateway))[0] == 200
    assert (await get(gateway, "/v1/models", bearer("lm-somebody-put-a-key-here")))[0] == 401


async def test_without_any_key_it_is_not_ready_and_says_why(start: Start, triton: FakeTriton, keys: Path) -> None:
    (keys / "team-a").unlink()
    gateway = await start(wait=False, keys_directory=str(keys))

    async def reason() -> str:
        return (await gateway.status())["reason"]

    async def says(expected: str) -> bool:
        try:
            return await reason() == expected
        except OSError:
            return False

    await eventually(lambda: says("KeysMissing"))
    assert await gateway.code("/readyz") == 503
    (keys / "team-a").write_text("plain")
    await eventually(lambda: says("KeysInvalid"))
    assert "'team-a'" in (await gateway.status())["message"]
    (keys / "team-a").write_text(format_hash(KEY))
    await eventually(lambda: says("Ready"))
    assert (await ask(gateway))[0] == 200
    (keys / "team-a").unlink()
    await eventually(lambda: says("KeysMissing"))
    assert (await ask(gateway))[0] == 401


async def test_a_key_with_a_list_of_models(start: Start, triton: FakeTriton, keys: Path) -> None:
    (keys / "open").write_text(format_hash("lm-open"))
    gateway = await start(keys_directory=str(keys), limits=[{"key": "team-a", "models": ["org/tiny"]}])
    for model in ("tiny", "unknown"):
        status, body, _ = await ask(gateway, model=model)
        assert (status, body["error"]["code"], body["error"]["param"]) == (403, "model_not_allowed", "model")
        assert "org/tiny" in body["error"]["message"]
    assert (await ask(gateway, model="tiny", temperature=9))[0] == 400, "what is wrong with the body comes first"
    assert (await ask(gateway, model="org/tiny"))[1]["model"] == "org/tiny"
    unnamed = {"messages": CHAT["messages"]}
    async with await gateway.post("/v1/chat/completions", unnamed, headers=bearer()) as reply:
        assert (await reply.json())["model"] == "org/tiny", "the first that this key may use"
    assert [m["id"] for m in (await get(gateway, "/v1/models", bearer()))[1]["data"]] == ["org/tiny"]
    assert (await get(gateway, "/v1/models/tiny", bearer()))[0] == 403
    assert (await get(gateway, "/v1/models/org%2Ftiny", bearer()))[0] == 200
    for name, code in (("tiny", 403), ("llm", 403), ("org/tiny", 200), ("nowhere", 404)):
        assert (await get(gateway, f"/v2/models/{name}", bearer()))[0] == code, name
    assert [m["id"] for m in (await get(gateway, "/v1/models", bearer("lm-open")))[1]["data"]] == ["tiny", "org/tiny"]
    assert (await ask(gateway, "lm-open", model="unknown"))[0] == 404
    await gateway.balanced()


async def test_requests_per_minute(start: Start, triton: FakeTriton, keys: Path) -> None:
    (keys / "team-b").write_text(format_hash("lm-b"))
    gateway = await start(keys_directory=str(keys), limits=[{"key": "*", "rpm": 2}])
    status, _, sent = await ask(gateway)
    assert status == 200 and sent["x-ratelimit-limit-requests"] == "2" and sent["x-ratelimit-remaining-requests"] == "1"
    assert sent["x-ratelimit-reset-requests"] in ("1m0s", "1m1s") and "x-ratelimit-limit-tokens" not in sent
    assert (await get(gateway, "/v1/models", bearer()))[0] == 200, "a list of models is no request to the model"
    assert (await ask(gateway, temperature=9))[0] == 400, "nor is what is refused"
    async with await gateway.post("/v1/chat/completions", {**CHAT, "stream": True}, headers=bearer()) as reply:
        assert reply.headers["x-ratelimit-remaining-requests"] == "0"
        check_stream(await reply.read())
    status, body, sent = await ask(gateway)
    assert (status, body["error"]["code"]) == (429, "rate_limit_exceeded") and "2 requests per minute" in body["error"]["message"]
    assert sent["x-should-retry"] == "true" and 50 <= int(sent["retry-after"]) <= 61 and int(sent["retry-after-ms"]) > 50_000
    assert sent["x-ratelimit-remaining-requests"] == "0"
    assert (await ask(gateway, "lm-b"))[0] == 200, "each key under '*' counts for itself"
    client = openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0)
    with pytest.raises(openai.RateLimitError):
        await client.chat.completions.create(**CHAT)
    await client.close()
    assert (await gateway.outcomes())["rate_limited"] == 2
    await gateway.balanced()


async def test_tokens_are_reserved_and_what_was_not_used_is_free_again(start: Start, triton: FakeTriton, keys: Path) -> None:
    gateway = await start(keys_directory=str(keys), limits=[{"key": "team-a", "tpm": 150}])
    status, body, sent = await ask(gateway, max_tokens=100)
    assert status == 200
    used = body["usage"]["total_tokens"]
    reserved = body["usage"]["prompt_tokens"] + 100
    assert sent["x-ratelimit-remaining-tokens"] == str(150 - reserved)
    status, _, sent = await ask(gateway, max_tokens=100)
    assert status == 200 and sent["x-ratelimit-remaining-tokens"] == str(150 - used - reserved)
    status, body, sent = await ask(gateway)
    assert status == 429 and "150 tokens per minute" in body["error"]["message"] and "max_tokens" in body["error"]["message"]
    assert sent["x-should-retry"] == "false" and "retry-after" not in sent, "the whole window never fits"
    triton.plan = Plan(texts=("a",) * 40, gap=0.05)
    async with await gateway.post(
        "/v1/chat/completions", {**CHAT, "stream": True, "max_tokens": 60}, headers=bearer()
    ) as leaving:
        await leaving.content.readany()
        assert (await ask(gateway, max_tokens=60))[0] == 429
    await gateway.idle()
    triton.plan = Plan()
    assert (await ask(gateway, max_tokens=60))[0] == 200, "who leaves pays for what was made"
    await gateway.balanced()


async def test_requests_at_once(start: Start, triton: FakeTriton, keys: Path) -> None:
    gateway = await start(keys_directory=str(keys), limits=[{"key": "team-a", "max_concurrent": 1}])
    triton.plan = Plan(begin=(begin := asyncio.Event()))
    first = asyncio.create_task(ask(gateway))
    await eventually(lambda: triton.user_submits)
    status, body, sent = await ask(gateway)
    assert (status, body["error"]["code"]) == (429, "key_concurrency_exceeded")
    assert sent["retry-after"] == "1" and sent["x-should-retry"] == "true"
    begin.set()
    assert (await first)[0] == 200
    assert (await ask(gateway))[0] == 200
    await gateway.balanced()


async def test_what_we_could_not_serve_is_not_charged(start: Start, triton: FakeTriton, keys: Path) -> None:
    (keys / "team-b").write_text(format_hash("lm-b"))
    gateway = await start(keys_directory=str(keys), limits=[{"key": "*", "rpm": 2}], concurrency={"max": 1, "queue": 0})
    triton.plan = Plan(begin=(begin := asyncio.Event()))
    first = asyncio.create_task(ask(gateway))
    await eventually(lambda: triton.user_submits)
    for _ in range(3):
        assert (await ask(gateway))[0] == 503
    begin.set()
    assert (await first)[0] == 200
    await gateway.idle()
    assert (await ask(gateway))[0] == 200
    triton.plan = Plan(begin=(begin := asyncio.Event()))
    other = asyncio.create_task(ask(gateway, "lm-b"))
    await eventually(lambda: len(triton.user_submits) == 3)
    assert (await ask(gateway))[0] == 429, "its own limit comes before our capacity"
    begin.set()
    assert (await other)[0] == 200


async def test_v2_counts_too(start: Start, triton: FakeTriton, keys: Path) -> None:
    gateway = await start(keys_directory=str(keys), limits=[{"key": "team-a", "tpm": 600}])
    body = {"REQUEST": '{"text": "What is", "sampling": {"max_tokens": 97}}'}
    async with await gateway.post("/v2/models/tiny/generate", body, headers=bearer()) as reply:
        assert reply.status == 200 and reply.headers["x-ratelimit-remaining-tokens"] == "500"
    async with await gateway.post("/v2/models/tiny/generate", {"REQUEST": '{"text": "What"}'}, headers=bearer()) as reply:
        assert reply.status == 429 and set(await reply.json()) == {"error"}, "it may fill the window of 512"
    async with await gateway.post("/v2/models/tiny/generate", body, headers=bearer()) as reply:
        assert reply.headers["x-ratelimit-remaining-tokens"] == "400"


async def test_limits_without_keys_are_everybodys(start: Start, triton: FakeTriton) -> None:
    gateway = await start(limits=[{"key": "*", "rpm": 1}])
    assert (await ask(gateway, "one"))[0] == 200
    assert (await ask(gateway, "another"))[0] == 429
    assert (await gateway.record(2))["key"] is None

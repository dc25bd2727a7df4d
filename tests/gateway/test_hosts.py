"""A page whose site's name was led to this machine (DNS rebinding), before the whole gateway: its Origin equals its Host."""

import json

from gateway.conftest import CHAT, GatewayProcess, Start
from gateway.fake_triton import FakeTriton

EVIL = "evil.example:8080"
REBOUND = {"host": EVIL, "origin": f"http://{EVIL}", "sec-fetch-site": "same-origin"}


async def ask(
    gateway: GatewayProcess, path: str, body: object = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    method = "GET" if body is None else "POST"
    async with gateway.session.request(method, gateway.url + path, json=body, headers=headers or REBOUND) as reply:
        return reply.status, await reply.read()


async def test_it_is_refused_in_the_form_of_each_api(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    for path, body in (("/v1/chat/completions", CHAT), ("/v1/models", None), ("/", None), ("/page/main.js", None)):
        status, answer = await ask(gateway, path, body)
        assert (status, json.loads(answer)["error"]["code"]) == (421, "misdirected_request"), path
        assert "evil" not in answer.decode() and "http://localhost" in answer.decode()
    status, answer = await ask(gateway, "/v2/models/tiny/generate", {"REQUEST": "{}"})
    assert status == 421 and "http://localhost" in json.loads(answer)["error"], "Triton's form"
    assert not triton.user_submits
    await gateway.record(5)
    ended = [(each["endpoint"], each["outcome"], each["status"]) for each in gateway.records]
    assert sorted(ended) == [(name, "rejected", 421) for name in ("other", "other", "page", "page", "v2")]
    status, _ = await ask(gateway, "/v1/chat/completions", CHAT, {"host": "localhost:1", "origin": "http://localhost:1"})
    assert status == 200 and len(triton.user_submits) == 1
    for path in ("/livez", "/readyz", "/metrics"):
        async with gateway.session.get(gateway.admin + path, headers=REBOUND) as reply:
            assert reply.status == 200, path
    async with gateway.session.get(f"{gateway.admin}/drain", headers=REBOUND) as reply:
        assert reply.status == 421
    await gateway.balanced()


async def test_a_cluster_asks_under_many_names(start: Start) -> None:
    gateway = await start(serving_host="0.0.0.0", admin_host="0.0.0.0")
    for host in ("qwen.llm.svc", "models.example.com", "10.2.3.4:8080", ""):
        assert (await ask(gateway, "/v1/chat/completions", CHAT, {"host": host}))[0] == 200, host
    async with gateway.session.get(f"{gateway.admin}/drain", headers={"host": "10.2.3.4:8081"}) as reply:
        assert reply.status == 200

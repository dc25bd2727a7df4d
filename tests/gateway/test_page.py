"""The chat page over HTTP: what is sent, with which headers, to whom. What it does in a browser is in tests/page."""

import re

import pytest

from gateway.conftest import GatewayProcess, Start, eventually
from gateway.fake_triton import FakeTriton


async def get(gateway: GatewayProcess, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with gateway.session.request(method, gateway.url + path, headers=names) as reply:
        return reply.status, {name.lower(): value for name, value in reply.headers.items()}, await reply.read()


async def test_the_page_and_every_file_that_it_names(start: Start) -> None:
    gateway = await start()
    status, headers, html = await get(gateway, "/")
    assert status == 200 and headers["content-type"] == "text/html; charset=utf-8"
    waiting = set(re.findall(r'(?:src|href)="(page/[^"]+)"', html.decode()))
    seen: set[str] = set()
    while waiting:
        seen.add(name := waiting.pop())
        status, headers, body = await get(gateway, f"/{name}")
        assert status == 200, name
        waiting |= {f"page/{module}" for module in re.findall(r'from "\./([^"]+)"', body.decode())} - seen
    assert {name.rsplit(".", 1)[1] for name in seen} == {"css", "js", "svg"}
    assert "page/markdown.js" in seen
    await gateway.record(1 + len(seen))
    assert {(each["endpoint"], each["outcome"], each["status"]) for each in gateway.records} == {("page", "ok", 200)}
    await gateway.balanced()


async def test_headers_let_it_load_and_embed_nothing(start: Start) -> None:
    gateway = await start()
    for path in ("/", "/page/main.js"):
        _, headers, _ = await get(gateway, path)
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy.pop("default-src") == policy.pop("frame-ancestors") == policy.pop("base-uri") == "'none'"
        assert {policy[name] for name in ("script-src", "style-src", "connect-src", "img-src")} == {"'self'"}
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-cache"


async def test_unchanged_is_304_and_head_has_no_body(start: Start) -> None:
    gateway = await start()
    _, headers, body = await get(gateway, "/page/style.css")
    etag = headers["etag"]
    assert (await get(gateway, "/page/style.css", if_none_match=f'"other", {etag}'))[::2] == (304, b"")
    assert (await get(gateway, "/page/style.css", if_none_match='"other"'))[::2] == (200, body)
    status, head, nothing = await get(gateway, "/page/style.css", "HEAD")
    assert (status, nothing) == (200, b"") and head["content-length"] == str(len(body)) and head["etag"] == etag
    await gateway.record(4)
    assert [each["bytes_out"] for each in gateway.records] == [len(body), 0, len(body), 0]
    await gateway.balanced()


async def test_other_methods_and_other_files(start: Start) -> None:
    gateway = await start()
    status, headers, body = await get(gateway, "/", "POST")
    assert status == 405 and headers["allow"] == "GET, HEAD" and b"method_not_allowed" in body
    for path in ("/page", "/page/", "/page/index.html", "/page/nothing.js", "/page/main.py", "/index.html"):
        status, _, body = await get(gateway, path)
        assert (status, b"unknown_url" in body) == (404, True), path


@pytest.mark.parametrize("path", ["/", "/page/main.js"])
async def test_switched_off(start: Start, path: str) -> None:
    gateway = await start(page=False)
    status, _, body = await get(gateway, path)
    assert status == 404 and b"unknown_url" in body
    assert (await gateway.record())["endpoint"] == "other"


async def test_it_is_there_while_the_model_is_not(start: Start, triton: FakeTriton) -> None:
    triton.load_errors = ["no such file"] * 100
    gateway = await start(wait=False)
    await eventually(lambda: backend_state(gateway), 90)
    assert (await get(gateway, "/"))[0] == 200


async def backend_state(gateway: GatewayProcess) -> bool:
    try:
        return bool((await gateway.status())["backend"]["state"] == "LoadFailed")
    except OSError:
        return False

"""HTTP as attackers and broken clients send it: every answer is our JSON with a request id, and has one record."""

import asyncio
import gzip
import json

import pytest

from gateway.conftest import CHAT, Start, eventually
from gateway.fake_triton import FakeTriton
from gateway.wire import chat_bytes, connect, exchange, request, split_answer

BODY = json.dumps(CHAT).encode()
PATH = "/v1/chat/completions"
CLOSE = "connection: close"

CASES: dict[str, tuple[bytes, int, str | None]] = {
    "unknown url": (b"GET /v1/nothing HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", 404, "unknown_url"),
    "no such page": (b"GET /page HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", 404, "unknown_url"),
    "method": (b"GET /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", 405, "method_not_allowed"),
    "gzip": (request(PATH, gzip.compress(BODY), "content-encoding: gzip", CLOSE), 415, "unsupported_media_type"),
    "form": (request(PATH, BODY, CLOSE).replace(b"application/json", b"text/plain"), 415, "unsupported_media_type"),
    "declared too large": (
        f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 8388609\r\n\r\n".encode(), 413, "request_too_large",
    ),
    "long header": (b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 40000 + b"\r\n\r\n", 431, "request_too_large"),
    "many headers": (
        b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n" + b"x: " + b"\r\nx: ".join([b"a" * 4000] * 9) + b"\r\n\r\n",
        431, "request_too_large",
    ),
    "too many headers": (
        b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n" + b"x: y\r\n" * 500 + b"\r\n",
        431, "request_too_large",
    ),
    "long url": (b"GET /v1/models?" + b"a" * 9000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n", 414, "request_too_large"),
    "no http": (b"HELLO\r\n\r\n", 400, None),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, None),
    "bad length": (f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n".encode(), 400, None),
    "two lengths": (
        f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n".encode(), 400, None,
    ),
    "bad chunk": (
        f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n"
        f"connection: close\r\n\r\nzz\r\n".encode(), 400, None,
    ),
    "newer http": (b"GET /v1/models HTTP/2.0\r\nhost: localhost\r\n\r\n", 505, None),
    "unknown http": (b"GET /v1/models HTTP/1.2\r\nhost: localhost\r\n\r\n", 505, None),
    "http/2 at once": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, None),
    "http/0.9": (b"GET /v1/models\r\n\r\n", 505, None),
    "unknown coding": (f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: wonder\r\n\r\n".encode(), 501, None),
    "two codings": (
        f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n".encode(), 501, None,
    ),
    "expect": (request(PATH, BODY, "expect: wonders", CLOSE), 417, None),
    "no json": (request(PATH, b"{", CLOSE), 400, "invalid_json"),
    "duplicate key": (request(PATH, b'{"model": "tiny", "model": "tiny"}', CLOSE), 400, "invalid_json"),
    "unknown model": (request(PATH, json.dumps({**CHAT, "model": "gpt-4"}).encode(), CLOSE), 404, "model_not_found"),
}  # fmt: skip


async def test_odd_requests(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    for number, (name, (data, status, code)) in enumerate(CASES.items()):
        got, headers, body = await exchange(gateway, data)
        assert (got, body["error"]["code"]) == (status, code), name
        assert set(body["error"]) == {"message", "type", "param", "code"}, name
        assert headers["content-type"] == "application/json" and headers["x-request-id"], name
        assert headers["x-should-retry"] == "false" and headers["server"] == "localmodel", name
        record = await gateway.record(number + 1)
        assert (record["outcome"], record["status"], record["code"]) == ("rejected", status, code), name
    assert not triton.user_submits
    await gateway.balanced()


async def test_a_body_that_turns_out_too_large(start: Start) -> None:
    gateway = await start()
    piece = b"10000\r\n" + b"a" * 65536 + b"\r\n"
    reader, writer = await connect(gateway)
    writer.write(f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n".encode() + piece * 129)
    status, _, body = split_answer(await asyncio.wait_for(reader.read(), 20))
    writer.close()
    assert (status, body["error"]["code"]) == (413, "request_too_large") and "8388608" in body["error"]["message"]


async def test_asked_for_its_body_and_http_1_0(start: Start) -> None:
    gateway = await start()
    reader, writer = await connect(gateway)
    data = request(PATH, BODY, "expect: 100-continue", CLOSE)
    head, body = data[: -len(BODY)], data[-len(BODY) :]
    writer.write(head)
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    status, _, answer = split_answer(await reader.read())
    assert status == 200 and answer["choices"][0]["message"]["content"] == "The capital is Paris."
    writer.close()

    reader, writer = await connect(gateway)
    writer.write(chat_bytes({**CHAT, "stream": True}).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert (await reader.read()).endswith(b"data: [DONE]\n\n")
    writer.close()


async def test_http_1_0_with_keep_alive_ends_a_relayed_stream(start: Start) -> None:
    gateway = await start()
    reader, writer = await connect(gateway)
    data = request("/v2/models/llm/generate_stream", b'{"REQUEST": "{\\"text\\": \\"a\\"}"}', "connection: keep-alive")
    writer.write(data.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert (await asyncio.wait_for(reader.read(), 20)).count(b"data: ") == 5
    writer.close()


async def test_a_slow_upload_is_not_our_overhead(start: Start) -> None:
    gateway = await start()
    reader, writer = await connect(gateway)
    data = request(PATH, BODY, CLOSE)
    writer.write(data[:-1])
    await asyncio.sleep(1)
    writer.write(data[-1:])
    _, headers, _ = split_answer(await reader.read())
    assert float(headers["x-gateway-overhead-ms"]) < 1000 <= (await gateway.record())["total_seconds"] * 1000
    writer.close()


async def test_request_ids(start: Start) -> None:
    gateway = await start()
    for offered, kept in (("my-id.7", True), ("with space", False), ("a" * 129, False)):
        async with await gateway.post(PATH, CHAT, headers={"x-request-id": offered}) as reply:
            assert (reply.headers["x-request-id"] == offered) == kept
    await eventually(lambda: len(gateway.records) == 3)
    assert gateway.records[0]["request_id"] == "my-id.7"


@pytest.mark.parametrize("field", ["prompt", "user", "model"])
async def test_nothing_private_in_the_log(start: Start, field: str) -> None:
    gateway = await start()
    secret = "SECRET-4711"
    body = {"prompt": {"messages": [{"role": "user", "content": secret}]}, "user": {**CHAT, "user": secret},
            "model": {**CHAT, "model": secret}}[field]  # fmt: skip
    async with await gateway.post(f"{PATH}?{secret}", body) as reply:
        await reply.read()
    await gateway.record()
    assert secret.encode() not in gateway.raw_log


async def test_what_can_be_got_has_a_head(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    served = [gateway.url + path for path in ("/v1/models", "/v1/models/tiny", "/v2/models/tiny")]
    for url in (*served, f"{gateway.admin}/livez"):
        async with gateway.session.get(url) as got, gateway.session.head(url) as head:
            assert (head.status, await head.read()) == (200, b"")
            assert head.headers["content-length"] == str(len(await got.read()))
    async with gateway.session.head(f"{gateway.url}{PATH}") as head:
        assert (head.status, head.headers["allow"]) == (405, "POST")
    await gateway.balanced()

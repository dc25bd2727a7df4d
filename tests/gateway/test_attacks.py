"""What attackers and broken clients do to a server: each gets a clear answer or a closed socket and leaves one record; the
others notice nothing, and the gateway's memory stays where it was."""

import asyncio
import gzip
import json
import re
import time
from pathlib import Path

import pytest

from gateway.conftest import CHAT, GatewayProcess, Start, eventually
from gateway.fake_triton import FakeTriton
from gateway.wire import answers, connect, converse, request

BODY = json.dumps(CHAT).encode()
PATH = "/v1/chat/completions"
LENGTH = f"content-length: {len(BODY)}"
CHUNKED = "transfer-encoding: chunked"
CLOSE = "connection: close"
NEXT = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n"


def post(*lines: str, body: bytes = BODY, path: str = PATH, version: str = "HTTP/1.1") -> bytes:
    return "\r\n".join([f"POST {path} {version}", "host: localhost", *lines, "", ""]).encode("latin-1") + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


CHUNKS = chunk(BODY) + b"0\r\n\r\n"

SMUGGLING = {
    "length and chunked": post(LENGTH, CHUNKED, body=b"0\r\n\r\n" + NEXT),
    "chunked and length": post(CHUNKED, LENGTH, body=CHUNKS + NEXT),
    "two lengths": post(LENGTH, "content-length: 3"),
    "two equal lengths": post(LENGTH, LENGTH),
    "list of lengths": post("content-length: 5, 5"),
    "plus": post(f"content-length: +{len(BODY)}"),
    "hexadecimal": post("content-length: 0x10"),
    "underscore": post("content-length: 1_0"),
    "huge length": post("content-length: 99999999999999999999999999"),
    "no length": post("content-length:"),
    "space before the colon": post("transfer-encoding : chunked", body=CHUNKS),
    "chunked is not the last": post("transfer-encoding: chunked, identity", body=CHUNKS),
    "chunked twice": post(CHUNKED, CHUNKED, body=CHUNKS),
    "identity and length": post("transfer-encoding: identity", LENGTH),
    "vertical tab": post("transfer-encoding: \x0bchunked", body=CHUNKS),
    "folded coding": post("transfer-encoding:\r\n chunked", body=CHUNKS),
    "folded header": post(LENGTH, "x: a\r\n b"),
    "folded first header": b"GET /v1/models HTTP/1.1\r\n x: y\r\nhost: localhost\r\n\r\n",
    "bare line feeds": post(LENGTH).replace(b"\r\n", b"\n"),
    "bare line feed in a header": post(LENGTH, "x: a\ntransfer-encoding: chunked"),
    "bare carriage return": post(LENGTH, "x: a\rb"),
    "NUL in a value": post(LENGTH, "x: a\0b"),
    "NUL in a name": post(LENGTH, "x\0y: b"),
    "NUL in the URL": post(LENGTH, path=PATH + "\0"),
    "space in the URL": post(LENGTH, path="/v1/ chat"),
    "no host": b"GET /v1/models HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /v1/models HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    "broken absolute URI": post(LENGTH, path="http://[::1/x"),
    "negative chunk": post(CHUNKED, body=b"-1\r\n" + BODY),
    "endless chunk": post(CHUNKED, body=b"f" * 18 + b"\r\n" + BODY),
    "0x chunk": post(CHUNKED, body=b"0x5\r\nabcde\r\n0\r\n\r\n"),
    "chunk by line feed": post(CHUNKED, body=CHUNKS.replace(b"\r\n", b"\n")),
    "chunk and space": post(CHUNKED, body=CHUNKS.replace(b"\r\n", b" \r\n", 1)),
    "chunk longer than said": post(CHUNKED, body=b"%x\r\n%s0\r\n\r\n" % (len(BODY), BODY)),
    "length among the trailers": post(CHUNKED, body=chunk(BODY) + b"0\r\ncontent-length: 3\r\n\r\n"),
    "two versions": b"GET /v1/models HTTP/1.1 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "small letters": b"get /v1/models http/1.1\r\nhost: localhost\r\n\r\n",
}
STATUSES: dict[str, tuple[bytes, int]] = {name: (data, 400) for name, data in SMUGGLING.items()} | {
    "quoted coding": (post('transfer-encoding: "chunked"', body=CHUNKS), 501),
    "xchunked": (post("transfer-encoding: xchunked", body=CHUNKS), 501),
    "chunked by HTTP/1.0": (post(CHUNKED, body=CHUNKS, version="HTTP/1.0"), 501),
    "absolute URI": (post(LENGTH, CLOSE, path="http://169.254.169.254" + PATH), 200),
    "two deadlines": (post(LENGTH, CLOSE, "x-request-deadline-ms: 9000", "x-request-deadline-ms: 9000"), 400),
    "connect": (b"CONNECT 127.0.0.1:8000 HTTP/1.1\r\nhost: localhost\r\n\r\n" + NEXT, 404),
    "header of 1 MB": (post(LENGTH, "x: " + "a" * 1_000_000), 431),
    "headers of 1 MB": (post(LENGTH, *["x: " + "a" * 1000] * 1000), 431),
    "empty lines": (b"\r\n" * 500_000, 431),
    "trailer of 1 MB": (post(CHUNKED, body=chunk(BODY) + b"0\r\nx: " + b"y" * 1_000_000), 431),
    "URL of 1 MB": (post(LENGTH, path="/" + "a" * 1_000_000), 414),
    "method of 1 MB": (b"A" * 1_000_000 + b" / HTTP/1.1\r\n\r\n", 400),
    "gzip bomb": (request(PATH, gzip.compress(b"{" + b" " * 10_000_000), "content-encoding: gzip", CLOSE), 415),
    "unknown coding of the body": (request(PATH, BODY, "content-encoding: \u0130", CLOSE), 415),
    "odd type": (post(LENGTH, CLOSE, "content-type: \xff\xfe"), 415),
    "20,000 semicolons": (post(LENGTH, CLOSE, "content-type: application/json" + ";" * 20_000), 200),
    "chunk extensions": (post(CHUNKED, CLOSE, body=b"%x;a=b\r\n%s\r\n0;q\r\n\r\n" % (len(BODY), BODY)), 200),
    "spelled Chunked": (post("Transfer-Encoding: Chunked", CLOSE, body=CHUNKS), 200),
    "h2c": (post(LENGTH, "upgrade: h2c", "connection: upgrade", body=BODY + NEXT), 200),
    "websocket": (post(LENGTH, "upgrade: websocket", "connection: upgrade", body=BODY + NEXT), 200),
    "a request inside a body": (NEXT[:-2] + f"content-length: {len(NEXT)}\r\n{CLOSE}\r\n\r\n".encode() + NEXT, 200),
}  # fmt: skip
JSON = {
    "deep": b"[" * 1_000_000,
    "deep object": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "5,000 digits": BODY[:-1] + b', "seed": ' + b"9" * 5000 + b"}",
    "infinite": BODY[:-1] + b', "temperature": 1e9999}',
    "NaN": BODY[:-1] + b', "temperature": NaN}',
    "lone surrogate": BODY.replace(b"What", b"\\ud800"),
    "same key twice": BODY[:-1] + b', "model": "tiny"}',
    "NUL": BODY.replace(b"What", b"\0"),
    "not UTF-8": BODY.replace(b"What", b"\xff\xfe"),
    "two million lists": BODY[:-1] + b', "stop": [' + b"[]," * 2_000_000 + b"[]]}",
    "700,000 keys": b"{" + b",".join(b'"%d":0' % number for number in range(700_000)) + b"}",
    "250,000 messages": b'{"messages": [' + b'{"role":"user","content":""},' * 250_000 + b"{}]}",
}


def resident_mb(gateway: GatewayProcess) -> float:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{gateway.process.pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


async def serves(gateway: GatewayProcess, within: float = 20.0) -> None:
    """A request of somebody else is answered soon."""
    async with asyncio.timeout(within):
        status, body = await gateway.chat()
    assert status == 200 and b"Paris" in body


async def test_one_answer_and_one_record_each(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    await serves(gateway)
    before, good = resident_mb(gateway), 1
    cases = STATUSES | {name: (request(PATH, body, CLOSE), 400) for name, body in JSON.items()}
    for number, (name, (data, status)) in enumerate(cases.items()):
        raw = await converse(gateway, data)
        first, *others = answers(raw)
        assert not others, f"{name}: a second answer"
        assert first.status == status, name
        assert first.headers["content-type"] == "application/json" and first.headers["x-request-id"], name
        if status != 200:
            assert set(first.body["error"]) == {"message", "type", "param", "code"}, name
        good += status == 200 and "model" in first.body
        record = await gateway.record(number + 2)
        assert (record["status"], record["outcome"]) == (status, "ok" if status == 200 else "rejected"), name
    await serves(gateway)
    assert len(triton.user_submits) == good + 1, "a smuggled request reached the engine"
    assert resident_mb(gateway) - before < 40
    await gateway.idle()
    await gateway.balanced()


@pytest.mark.parametrize("sized", [True, False])
async def test_a_body_of_100_megabytes(start: Start, *, sized: bool) -> None:
    gateway = await start()
    await serves(gateway)
    before = resident_mb(gateway)
    piece = b" " * 65536
    reader, writer = await connect(gateway)
    if sized:
        writer.write(post("content-length: 104857600", body=b""))
    else:
        writer.write(post(CHUNKED, body=b""))
        piece = chunk(piece)

    async def send() -> None:
        for _ in range(1600):
            writer.write(piece)
            await writer.drain()

    sending = asyncio.create_task(send())
    (answer,) = answers(await asyncio.wait_for(reader.read(), 60))
    assert answer.status == 413 and "8388608" in answer.body["error"]["message"]
    await asyncio.wait({sending}, timeout=60)
    assert sending.done(), "the gateway neither reads nor closes"
    sending.exception()
    writer.close()
    assert resident_mb(gateway) - before < 24
    assert (await gateway.record(2))["status"] == 413
    await serves(gateway)


async def test_a_body_whose_framing_breaks_is_answered_at_once(start: Start) -> None:
    gateway = await start()
    reader, writer = await connect(gateway)
    writer.write(post(CHUNKED, body=chunk(b"{")))
    await asyncio.sleep(0.2)
    writer.write(b"zz\r\n")
    (answer,) = answers(await asyncio.wait_for(reader.read(), 60))
    assert answer.status == 400
    writer.close()
    await gateway.record(1)
    await gateway.balanced()


async def test_slow_heads(start: Start) -> None:
    """A hundred clients that send a byte now and then are told after ten seconds; nobody else waits for them."""
    gateway = await start()

    async def loris(before: bytes) -> tuple[float, list[int]]:
        reader, writer = await connect(gateway)
        writer.write(before + b"GET /v1/models HTTP/1.1\r\nx: ")
        began = time.monotonic()
        reading = asyncio.create_task(reader.read())
        while not reading.done():
            writer.write(b"a")
            await asyncio.wait({reading}, timeout=0.5)
        writer.close()
        return time.monotonic() - began, [answer.status for answer in answers(reading.result())]

    clients = [asyncio.create_task(loris(b"" if number % 2 else NEXT)) for number in range(100)]
    for _ in range(5):
        await serves(gateway, within=8)
        await asyncio.sleep(1)
    for number, (seconds, statuses) in enumerate(await asyncio.gather(*clients)):
        assert statuses == [408] if number % 2 else [200, 408]
        assert 9 < seconds < 60
    await gateway.record(155)
    await gateway.balanced()


async def test_a_thousand_idle_connections(start: Start) -> None:
    gateway = await start()
    await serves(gateway)
    before = resident_mb(gateway)
    idle = [await connect(gateway) for _ in range(1000)]
    await serves(gateway)
    assert resident_mb(gateway) - before < 40, "more than 40 KB each"
    for _, writer in idle[:500]:
        writer.write(NEXT)
    for reader, _ in idle[:500]:
        assert (await asyncio.wait_for(reader.readline(), 60)).startswith(b"HTTP/1.1 200 ")
    for _, writer in idle:
        writer.transport.abort()
    await serves(gateway)
    await gateway.record(503)
    await gateway.balanced()


async def test_pipelined_requests_are_answered_in_order(start: Start) -> None:
    gateway = await start()
    names = ["tiny", "org/tiny", "none"]
    data = b"".join(f"GET /v1/models/{names[number % 3]} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode() for number in range(300))
    reader, writer = await connect(gateway)
    writer.write(data + request(PATH, BODY, CLOSE))
    got = answers(await asyncio.wait_for(reader.read(), 60))
    writer.close()
    assert [answer.status for answer in got] == [200, 200, 404] * 100 + [200]
    assert [answer.body.get("id") for answer in got[:300:3]] == ["tiny"] * 100
    await gateway.record(301)


SPELLINGS = (
    "/v2/models/llm/generat%65", "/v2/models/ll%6d/generate", "/v2//models/llm/generate", "//v2/models/llm/generate",
    "/V2/models/llm/generate", "/v2/Models/llm/generate", "/v2/models/LLM/generate", "/v2/models/llm/Generate",
    "/v2/models/./llm/generate", "/v2/models/x/../llm/generate", "/v2/models/llm/%2e%2e/llm/generate",
    "/v2/models/llm%2fgenerate", "/v2/models/llm/generate/", "/v2/models/llm/generate%00", "/v2/models/llm/generate;x=1",
    "/v2/models/llm/versions/1/generate", "/v2/models/llm/versions/1/infer", "/v2/models/llm/infer",
    "/v2\\models\\llm\\generate", "/%76%32/models/llm/generate", "/v2%2fmodels/llm/generate",
    "http://127.0.0.1:8000//v2/models/llm/generate", "http://x/v2/repository/models/llm/unload",
    "/v2/repository/models/llm/unload", "/v2/repository/models/llm/%75nload", "/v2/repository//models/llm/load",
    "/v2/repository/index", "/V2/repository/index", "/v2/systemsharedmemory/region/x/register",
    "/v2/cudasharedmemory/status", "/v2/logging", "/v2/trace/setting", "/v2/models/llm/config", "/v2/models/stats",
    "/v2/models/llm/stats", "/metrics", "/v2/models/llm/submit", "/v2/models/llm/events", "/v1/../v2/models/llm/generate",
)  # fmt: skip


async def test_other_spellings_and_private_operations_never_reach_triton(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    await gateway.idle()
    inner = {"op": "submit", "token": "x", "instance": "x", "epoch": 1, "sequences": [{"id": "s1", "prompt": [1]}], "ids": ["s1"]}
    for operation in ("submit", "cancel", "events", "embed", "status", "Submit", ["submit"]):
        body = json.dumps({"REQUEST": json.dumps({**inner, "op": operation})}).encode()
        for path in ("/v2/models/llm/generate", "/v2/models/tiny/generate_stream"):
            (answer,) = answers(await converse(gateway, request(path, body, CLOSE)))
            assert answer.status == 400 and set(answer.body) == {"error"}, (operation, path)
    for path in SPELLINGS:
        for method in (b"POST", b"GET"):
            data = request(path, json.dumps({"REQUEST": '{"text": "SMUGGLED"}'}).encode(), CLOSE)
            (answer,) = answers(await converse(gateway, data.replace(b"POST", method, 1)))
            assert answer.status == 404, path
    assert set(triton.paths) <= {
        "/v2/health/live", "/v2/models/llm/ready", "/v2/models/llm/generate", "/v2/models/llm/generate_stream",
        "/v2/repository/models/llm/load",
    }  # fmt: skip
    assert not triton.generates and not triton.user_submits
    assert "SMUGGLED" not in json.dumps(triton.submitted)
    await eventually(lambda: len(gateway.records) == 14 + 2 * len(SPELLINGS))
    await gateway.balanced()

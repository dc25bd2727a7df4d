"""The protocol's own timers, with short limits: a head and a body that never complete."""

import asyncio
import gc
import json
import re
from collections.abc import AsyncIterator
from typing import cast

import pytest
from aiohttp.streams import EMPTY_PAYLOAD

from gateway.conftest import eventually
from localmodel.gateway import connection, errors, intake, patience, reply, server
from localmodel.gateway.answers import send
from localmodel.gateway.exchange import Exchange
from localmodel.gateway.record import Record
from localmodel.gateway.request import Request


class EchoSite:
    listener: server.Listener

    def __init__(self) -> None:
        self.ended: list[Record] = []
        self.paths: list[str] = []
        self.go = asyncio.Event()
        """`/wait` waits for it."""

    def open(self, headers: object, client: str | None) -> Exchange:
        return Exchange(Record("r", "", "", "", ""), lambda exchange: self.ended.append(exchange.record))

    async def respond(self, request: Request, exchange: Exchange) -> None:
        self.paths.append(request.path)
        if request.path == "/fail":
            raise KeyError("a bug")
        if request.path == "/wait":
            await self.go.wait()
        if request.path == "/ever":
            await asyncio.Event().wait()
        body = await intake.read_body(request, exchange)
        await send(request, exchange, 200, body, until=exchange.started + 5)
        exchange.close("ok")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(intake, "BODY_SECONDS", 0.2)


@pytest.fixture
async def port() -> AsyncIterator[tuple[EchoSite, int]]:
    site = EchoSite()
    listener = site.listener = server.Listener(site)
    opened = await asyncio.get_running_loop().create_server(listener, "127.0.0.1", 0)
    yield site, opened.sockets[0].getsockname()[1]
    opened.close()
    await listener.end(1)


async def talk(port: int, data: bytes) -> tuple[bytes, dict[str, object]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    head, _, body = (await asyncio.wait_for(reader.read(), 20)).partition(b"\r\n\r\n")
    writer.close()
    return head.splitlines()[0], json.loads(body)["error"]


async def say(port: int, *pieces: bytes) -> bytes:
    """All that is answered on one connection to pieces that come one after another."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number, piece in enumerate(pieces):
        await asyncio.sleep(0.1 * bool(number))
        writer.write(piece)
    answers = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return answers


@pytest.mark.parametrize(
    "data", [b"POST / HTTP/1.1\r\nhost", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n{", b"GET"]
)
async def test_what_never_completes_is_a_408(short: None, port: tuple[EchoSite, int], data: bytes) -> None:
    site, number = port
    line, error = await talk(number, data)
    assert line.startswith(b"HTTP/1.1 408 ") and error["code"] == "request_body_timeout"
    assert [record.outcome for record in site.ended] == ["rejected"]


@pytest.mark.parametrize("data", [b"GET / HTTP/2.0\r\nhost: x\r\n\r\n", b"GET /\r\n\r\n"])
async def test_another_version_is_not_repeated_in_the_answer(port: tuple[EchoSite, int], data: bytes) -> None:
    line, _ = await talk(port[1], data)
    assert line.startswith(b"HTTP/1.1 505 ")


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/a//b?c=http://x/d", "/a//b"),
        (b"http://elsewhere:81/a/b?c", "/a/b"),
        (b"HTTPS://x/%61", "/%61"),
        (b"http://x", "/"),
        (b"http://x?a=/b", "/"),
        (b"//x/a", "//x/a"),
    ],
)
async def test_the_path_of_a_target(port: tuple[EchoSite, int], target: bytes, path: str) -> None:
    site, number = port
    await say(number, b"GET %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" % target)
    assert site.paths == [path]


@pytest.mark.parametrize("name", ["authorization", "X-Request-Deadline-MS", "content-encoding"])
async def test_a_header_of_which_two_readers_could_take_another_one(port: tuple[EchoSite, int], name: str) -> None:
    site, number = port
    head = f"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{name}: 1\r\n{name}: 1\r\n\r\n"
    line, error = await talk(number, head.encode())
    assert line.startswith(b"HTTP/1.1 400 ") and error["param"] == name.lower() and "Send it once" in str(error["message"])
    assert site.paths == []


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", ": Missing 'Host' header in request. Correct"),
        (
            b"GET / HTTP/1.1\r\nhost: x\r\nuser-agent: secret\r\nuser-agent: x\r\n\r\n",
            ": Duplicate 'User-Agent' header found. Correct",
        ),
        (b"GET http://[secret HTTP/1.1\r\nhost: x\r\n\r\n", "request. Correct"),
        (b"GET /secret HTTP/1.1 x\r\nhost: x\r\n\r\n", ": Expected CRLF after version. Correct"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03secret", ": Received HTTPS traffic on an HTTP port. Correct"),
    ],
)
async def test_what_is_no_http_says_why_and_repeats_nothing(port: tuple[EchoSite, int], head: bytes, why: str) -> None:
    line, error = await talk(port[1], head)
    assert line.startswith(b"HTTP/1.1 400 ") and why in str(error["message"]) and "secret" not in str(error)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ((), 200),
        (("origin: http://evil",), 415),
        (("origin: null", "content-type: text/plain"), 415),
        (("origin: http://x", "content-type: application/json"), 200),
    ],
)
async def test_a_page_of_another_site_can_not_ask_without_the_browsers_question(
    port: tuple[EchoSite, int], headers: tuple[str, ...], status: int
) -> None:
    """Browsers ask beforehand, and are refused, for every type that is taken here; without a type they don't."""
    head = "\r\n".join(["POST / HTTP/1.1", "host: x", "connection: close", "content-length: 2", *headers, "", ""])
    assert (await say(port[1], head.encode() + b"{}")).startswith(b"HTTP/1.1 %d " % status)


async def test_a_connect_without_a_target_is_answered(port: tuple[EchoSite, int]) -> None:
    """The parser takes it for HTTP/0.9."""
    site, number = port
    line, _ = await talk(number, b"CONNECT \r\n127.0.0.1:8000 HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert line.startswith(b"HTTP/1.1 505 ") and [record.status for record in site.ended] == [505]


async def test_a_bug_is_a_500_without_a_traceback(port: tuple[EchoSite, int]) -> None:
    site, number = port
    line, error = await talk(number, b"GET /fail HTTP/1.1\r\nhost: x\r\n\r\n")
    assert line.startswith(b"HTTP/1.1 500 ") and error["code"] == "internal_error"
    assert "KeyError" not in str(error) and "a bug" not in str(error)
    assert [record.outcome for record in site.ended] == ["internal_error"]


async def test_a_request_after_an_idle_pause_is_still_served(short: None, port: tuple[EchoSite, int]) -> None:
    _, number = port
    reader, writer = await asyncio.open_connection("127.0.0.1", number)
    await asyncio.sleep(0.4)
    for _ in range(2):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}")
        assert (await asyncio.wait_for(reader.readuntil(b"{}"), 20)).startswith(b"HTTP/1.1 200 ")
        await asyncio.sleep(0.4)
    writer.close()


async def test_a_connection_without_a_request_leaves_no_record(port: tuple[EchoSite, int]) -> None:
    site, number = port
    _, writer = await asyncio.open_connection("127.0.0.1", number)
    writer.close()
    await asyncio.sleep(0.1)
    assert site.ended == []


@pytest.mark.parametrize("first", [b"", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"])
async def test_a_head_that_drips_is_a_408_after_what_precedes_it(short: None, port: tuple[EchoSite, int], first: bytes) -> None:
    site, number = port
    reader, writer = await asyncio.open_connection("127.0.0.1", number)
    writer.write(first + b"GET / HTTP/1.1\r\nx: ")
    reading = asyncio.create_task(reader.read())
    while not reading.done():
        writer.write(b"T")
        await asyncio.wait({reading}, timeout=0.05)
    writer.close()
    assert (await reading).count(b"HTTP/1.1 200 ") == bool(first)
    assert (await reading).count(b"HTTP/1.1 408 ") == 1
    assert [record.outcome for record in site.ended] == ["ok"] * bool(first) + ["rejected"]


async def test_a_body_that_drips_is_a_408(short: None, port: tuple[EchoSite, int]) -> None:
    _, number = port
    reader, writer = await asyncio.open_connection("127.0.0.1", number)
    writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
    reading = asyncio.create_task(reader.readline())
    while not reading.done():
        writer.write(b" ")
        await asyncio.wait({reading}, timeout=0.05)
    assert (await reading).startswith(b"HTTP/1.1 408 ")
    writer.close()


async def test_a_head_that_grows_behind_a_running_request(port: tuple[EchoSite, int]) -> None:
    site, number = port
    reader, writer = await asyncio.open_connection("127.0.0.1", number)
    writer.write(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n")
    await eventually(lambda: site.paths)
    writer.write(b"GET / HTTP/1.1\r\n")
    for _ in range(20):
        writer.write(b"x: " + b"a" * 3000 + b"\r\n")
        await asyncio.sleep(0.01)
    site.go.set()
    got = await asyncio.wait_for(reader.read(), 20)
    assert got.startswith(b"HTTP/1.1 200 ") and got.count(b"HTTP/1.1 431 ") == 1
    writer.close()


async def test_large_bodies_shut_out_only_large_ones(port: tuple[EchoSite, int], monkeypatch: pytest.MonkeyPatch) -> None:
    room = intake.BodyRoom(3_000_000)
    monkeypatch.setattr(intake, "room", room)
    _, number = port

    async def begin(size: int, sent: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", number)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size + b" " * sent)
        return reader, writer

    holders = [await begin(2_000_000, 1_400_000) for _ in range(2)]
    await eventually(lambda: room._total == 2_800_000)
    for size, told in ((60_000, b" 200 "), (1_000_000, b" 503 .*Too many large requests")):
        reader, writer = await begin(size, size)
        assert re.match(b"HTTP/1.1" + told, await asyncio.wait_for(reader.read(4096), 20), re.S)
        writer.close()
    for _, writer in holders:
        writer.close()
    await eventually(lambda: room._total == 0)
    reader, writer = await begin(1_000_000, 1_000_000)
    assert (await asyncio.wait_for(reader.readline(), 20)).split()[1] == b"200", "what they held was not given back"
    writer.close()


async def test_at_too_many_connections_the_oldest_idle_one_goes(
    port: tuple[EchoSite, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 3)
    site, number = port
    running_reader, running = await asyncio.open_connection("127.0.0.1", number)
    running.write(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n")
    await eventually(lambda: site.paths)
    oldest, first = await asyncio.open_connection("127.0.0.1", number)
    others = [(await asyncio.open_connection("127.0.0.1", number))[1] for _ in range(2)]
    assert await asyncio.wait_for(oldest.read(), 20) == b""
    site.go.set()
    assert (await asyncio.wait_for(running_reader.readline(), 20)).startswith(b"HTTP/1.1 200 ")
    for writer in (running, first, *others):
        writer.close()


async def test_newcomers_at_once_each_cost_another_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 3)
    listener = server.Listener(EchoSite())

    class Idle:
        idle, closed = True, 0

        def close(self) -> None:
            self.closed += 1

    ones = [Idle() for _ in range(9)]
    for one in ones:  # of none the loss has been seen when the last comes
        listener.joined(cast(connection.Connection, one))
    assert [one.closed for one in ones] == [1] * 6 + [0] * 3


async def test_a_refusal_comes_after_another_requests_error(port: tuple[EchoSite, int]) -> None:
    site, number = port
    site.go.set()
    first = b"POST /wait HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 0\r\n\r\n"
    answers = await say(number, first, b"no HTTP\r\n\r\n")
    assert re.findall(rb"HTTP/1\.1 ([0-9]+) ", answers) == [b"415", b"400"]
    assert [record.outcome for record in site.ended] == ["rejected", "rejected"]


@pytest.mark.parametrize("pause", [0.0, 0.05])
async def test_a_trailer_that_is_too_long_is_answered_while_it_comes(port: tuple[EchoSite, int], pause: float) -> None:
    """In whatever packets: an answer that is followed by a reset is lost."""
    site, number = port
    reader, writer = await asyncio.open_connection("127.0.0.1", number)
    writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n")
    await asyncio.sleep(pause)
    writer.write(b"0\r\nx: " + b"y" * 100_000)
    await asyncio.sleep(0.1)
    for _ in range(3):
        writer.write(b"y" * 10_000)
        await asyncio.sleep(0.05)
    assert (await asyncio.wait_for(reader.read(), 20)).startswith(b"HTTP/1.1 431 ")
    assert [record.status for record in site.ended] == [431]
    writer.close()


@pytest.mark.parametrize("ending", [b"\r\n\r\n", b""])
async def test_what_follows_in_the_same_packet_costs_no_request(port: tuple[EchoSite, int], ending: bytes) -> None:
    site, number = port
    reader, writer = await asyncio.open_connection("127.0.0.1", number)
    one = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
    writer.write(one + one + b"no HTTP\x00" + ending)
    answers = await asyncio.wait_for(reader.read(), 20)
    assert re.findall(rb"HTTP/1\.1 ([0-9]+) ", answers) == [b"200", b"200", b"400"]
    assert [record.outcome for record in site.ended] == ["ok", "ok", "rejected"]
    writer.close()


async def test_what_follows_a_complete_body_does_not_break_it(port: tuple[EchoSite, int]) -> None:
    site, number = port
    answers = await say(number, b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{", b"}no HTTP\r\n\r\n")
    assert re.findall(rb"HTTP/1\.1 ([0-9]+) ", answers) == [b"200", b"400"] and b"{}HTTP/1.1 400" in answers
    assert [record.outcome for record in site.ended] == ["ok", "rejected"]


async def test_a_replica_that_leaves_keeps_no_connection(port: tuple[EchoSite, int]) -> None:
    """Whoever keeps one would send every request, and every retry of it, to the replica that refuses it."""
    site, number = port
    one = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
    reader, writer = await asyncio.open_connection("127.0.0.1", number)
    writer.write(one)
    assert b"connection: close" not in await asyncio.wait_for(reader.readuntil(b"{}"), 20)
    site.listener.leaving = lambda: True
    writer.write(one)
    answer = await asyncio.wait_for(reader.read(), 20)
    assert answer.startswith(b"HTTP/1.1 200 ") and b"\r\nconnection: close\r\n" in answer
    writer.close()


async def test_whoever_still_waits_at_the_end_hears_why(port: tuple[EchoSite, int]) -> None:
    site, number = port
    reader, writer = await asyncio.open_connection("127.0.0.1", number)
    writer.write(b"GET /ever HTTP/1.1\r\nhost: x\r\n\r\n" * 2)
    await eventually(lambda: site.paths)
    await site.listener.end(0.05)
    answer = await asyncio.wait_for(reader.read(), 20)
    assert answer.startswith(b"HTTP/1.1 503 ") and json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "draining"
    writer.close()
    await eventually(lambda: len(site.ended) == 2)
    assert [(record.outcome, record.status) for record in site.ended] == [("drained", 503), ("drained", None)]


async def test_an_idle_connection_is_closed(port: tuple[EchoSite, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "IDLE_SECONDS", 1.0)
    site, number = port
    reader, writer = await asyncio.open_connection("127.0.0.1", number)
    for _ in range(3):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}")
        assert (await asyncio.wait_for(reader.readuntil(b"{}"), 20)).startswith(b"HTTP/1.1 200 ")
        await asyncio.sleep(0.4)
    writer.write(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n")
    await asyncio.sleep(1.5)
    site.go.set()
    assert (await asyncio.wait_for(reader.read(), 20)).startswith(b"HTTP/1.1 200 "), "it is not idle while it waits"
    writer.close()


async def test_a_body_that_nobody_wants_is_read_after_its_answer(port: tuple[EchoSite, int]) -> None:
    site, number = port
    reader, writer = await asyncio.open_connection("127.0.0.1", number)
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 300000\r\n\r\n"
    writer.write(head + b"a" * 100_000)
    assert (await asyncio.wait_for(reader.readuntil(b'"code": "unsupported_media_type"}}'), 20)).startswith(b"HTTP/1.1 415 ")
    writer.write(b"a" * 200_000 + b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}")
    assert (await asyncio.wait_for(reader.readuntil(b"{}"), 20)).startswith(b"HTTP/1.1 200 ")
    writer.close()
    assert [record.outcome for record in site.ended] == ["rejected", "ok"]


async def test_more_requests_ahead_than_are_kept(port: tuple[EchoSite, int]) -> None:
    site, number = port
    reader, writer = await asyncio.open_connection("127.0.0.1", number)
    one = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
    writer.write(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n" + one * 500)
    await eventually(lambda: site.paths)
    await asyncio.sleep(0.2)
    site.go.set()
    writer.write(one * 499 + one.replace(b"host: x", b"host: x\r\nconnection: close"))
    assert (await asyncio.wait_for(reader.read(), 20)).count(b"HTTP/1.1 200 ") == 1001
    writer.close()


async def test_a_closed_connection_is_forgotten_without_a_search_for_cycles(port: tuple[EchoSite, int]) -> None:
    _, number = port
    gc.collect()
    gc.disable()
    try:
        for last in (b"", b"GET / HTTP/1.1\r\nx", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n{"):
            reader, writer = await asyncio.open_connection("127.0.0.1", number)
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}" + last)
            await asyncio.wait_for(reader.readuntil(b"{}"), 20)
            writer.close()
        await eventually(lambda: not [each for each in gc.get_objects() if type(each) is connection.Connection])
    finally:
        gc.enable()


def test_what_has_a_get_has_a_head() -> None:
    request = Request(None, EMPTY_PAYLOAD, cast(connection.Connection, None))
    for method, asked, allow in (("GET", "GET", ""), ("HEAD", "GET", ""), ("POST", "GET", "GET, HEAD"), ("HEAD", "POST", "POST")):
        request.method = method
        if not allow:
            request.check_method(asked)
            continue
        with pytest.raises(errors.ApiError) as refused:
            request.check_method(asked)
        assert (refused.value.status, refused.value.headers()["allow"]) == (405, allow)


async def test_a_header_can_hold_no_line_break(port: tuple[EchoSite, int]) -> None:
    request = Request(None, EMPTY_PAYLOAD, cast(connection.Connection, None))
    with pytest.raises(ValueError, match="line break"):
        reply.whole(request, 200, {"x": "a\r\nset-cookie: b"}, b"")

"""Triton's answers broken byte by byte: each request ends with a typed error, memory stays flat, and the gateway recovers."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway import fault_proxy as faults
from gateway.conftest import GatewayProcess, Start, eventually
from gateway.fake_triton import FakeTriton, Plan
from gateway.fault_proxy import Fault, FaultProxy
from gateway.invariants import check_stream
from ports import free_ports

FLAT_BYTES = 48 * 1024 * 1024
UPSTREAM, PROTOCOL, FIRST = "upstream_error", "upstream_protocol_error", "first_token_timeout"

SUBMIT: dict[Fault, str] = {
    faults.reset: UPSTREAM,
    faults.close: UPSTREAM,
    faults.silence: FIRST,
    faults.no_http: UPSTREAM,
    faults.endless_header: UPSTREAM,
    faults.endless_headers: UPSTREAM,
    faults.endless_body: PROTOCOL,
    faults.slow_by_byte: FIRST,
    faults.cut_short: UPSTREAM,
    faults.lie: UPSTREAM,
    faults.bad_utf8: PROTOCOL,
    faults.empty: PROTOCOL,
}


@pytest.fixture
async def proxy(triton: FakeTriton) -> AsyncIterator[FaultProxy]:
    proxy = FaultProxy(free_ports(1)[0], triton.port)
    await proxy.start()
    yield proxy
    await proxy.stop()


def resident_bytes(gateway: GatewayProcess) -> int:
    return int(Path(f"/proc/{gateway.process.pid}/statm").read_text().split()[1]) * 4096


async def begin(start: Start, proxy: FaultProxy) -> GatewayProcess:
    url = f"http://127.0.0.1:{proxy.port}"
    return await start(triton_url=url, breaker={"failures": 0}, timeouts={"first_token_seconds": 4.0})


async def test_broken_answers_to_a_submit(start: Start, triton: FakeTriton, proxy: FaultProxy) -> None:
    gateway = await begin(start, proxy)
    assert (await gateway.chat())[0] == 200
    before = resident_bytes(gateway)
    for number, (fault, code) in enumerate(SUBMIT.items()):
        await gateway.ready()
        proxy.faults = {"submit": fault}
        status, body = await gateway.chat(stream=number % 2 == 0)
        error = json.loads(body)["error"]
        assert error["code"] == code, fault.__name__
        assert status == (504 if code == FIRST else 502) and "Traceback" not in error["message"]
        proxy.faults = {}
    assert resident_bytes(gateway) - before < FLAT_BYTES
    await gateway.ready()
    assert (await gateway.chat())[0] == 200
    await gateway.idle()
    await gateway.balanced()


EVENTS = [
    faults.reset, faults.no_http, faults.endless_header, faults.endless_headers, faults.endless_body, faults.slow_by_byte,
    faults.cut_short, faults.lie, faults.bad_utf8, faults.empty, faults.silence,
]  # fmt: skip


@pytest.mark.parametrize("fault", EVENTS, ids=lambda fault: fault.__name__)
async def test_a_broken_event_stream(start: Start, triton: FakeTriton, proxy: FaultProxy, fault: Fault) -> None:
    """Running streams outlast it if it passes, and hear of it if it does not; new requests are told to come later."""
    gateway = await begin(start, proxy)
    triton.plan = Plan(texts=("The", " capital"), stall_after=1)
    lost = asyncio.create_task(gateway.chat(stream=True))
    await eventually(lambda: triton.accepted_users)
    before = resident_bytes(gateway)
    proxy.faults = {"events": fault}
    await proxy.break_connections()
    await eventually(lambda: proxy.broken)
    status, body = await gateway.chat()
    assert status in (502, 503, 504) and json.loads(body)["error"]["code"], fault.__name__
    assert resident_bytes(gateway) - before < FLAT_BYTES
    lost.cancel()
    proxy.faults = {}
    triton.plan = Plan()
    await proxy.break_connections()
    await gateway.ready()
    stream = check_stream((await gateway.chat(stream=True))[1])
    assert stream.text == "The capital is Paris."
    await gateway.idle()
    await gateway.balanced()


async def test_a_short_break_of_the_event_stream_costs_no_token(start: Start, triton: FakeTriton, proxy: FaultProxy) -> None:
    gateway = await begin(start, proxy)
    triton.plan = Plan(texts=tuple(f"{n}\u65e5 " for n in range(60)), gap=0.02)
    held = asyncio.create_task(gateway.chat(stream=True))
    await eventually(lambda: triton.accepted_users)
    for fault in (faults.reset, faults.no_http, faults.cut_short):
        proxy.faults = {"events": fault}
        broken = proxy.broken
        await proxy.break_connections()
        await eventually(lambda broken=broken: proxy.broken > broken)
        proxy.faults = {}
    assert check_stream((await held)[1]).text == "".join(f"{n}\u65e5 " for n in range(60))
    await gateway.balanced()


@pytest.mark.parametrize("path", ["generate", "generate_stream"])
async def test_broken_answers_to_v2(start: Start, triton: FakeTriton, proxy: FaultProxy, path: str) -> None:
    gateway = await begin(start, proxy)
    before = resident_bytes(gateway)
    body = {"REQUEST": json.dumps({"text": "What"})}
    for fault in (faults.reset, faults.no_http, faults.endless_header, faults.cut_short, faults.empty, faults.lie):
        proxy.faults = {"generate": fault}
        async with await gateway.post(f"/v2/models/llm/{path}", body) as reply:
            try:
                text = await reply.text()
                assert reply.status in (200, 502) and "error" in json.loads(text), fault.__name__
            except OSError:
                assert fault is faults.cut_short, "what has begun is cut off, so that it can't be taken for whole"
            except Exception as error:
                assert fault is faults.cut_short and "payload" in str(error).lower(), (fault.__name__, error)
    assert resident_bytes(gateway) - before < FLAT_BYTES
    proxy.faults = {}
    async with await gateway.post(f"/v2/models/llm/{path}", body) as reply:
        assert "Paris" in await reply.text()
    await gateway.idle()
    await gateway.balanced()

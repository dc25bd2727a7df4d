"""A client that leaves, in whatever phase and manner: the engine is told, and the slot is free only when it said so."""

import asyncio
import json
import socket
import struct

import pytest

from gateway.conftest import CHAT, GatewayProcess, Start, eventually
from gateway.fake_triton import FakeTriton, Plan
from gateway.wire import chat_bytes, connect, request

CANCEL_SECONDS = 5.0
"""A few milliseconds on an idle machine (tests/bench/cancels.py measures); no timer of the gateway is as short as this."""


async def leave(writer: asyncio.StreamWriter, how: str) -> None:
    if how == "half_close":
        writer.write_eof()
        await writer.drain()
        return
    if how == "reset":
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


async def in_use(gateway: GatewayProcess) -> int:
    return int((await gateway.status())["slots_in_use"])


PHASES = {
    "before_accept": (Plan(accept_delay=0.5, stall_after=0), False),
    "before_first_token": (Plan(stall_after=0), True),
    "mid_stream": (Plan(stall_after=2), True),
    "unary": (Plan(stall_after=2), False),
}


@pytest.mark.parametrize("how", ["close", "half_close", "reset"])
async def test_leaving_in_each_phase(start: Start, triton: FakeTriton, how: str) -> None:
    gateway = await start(max_batch_size=2)
    for phase, (plan, stream) in PHASES.items():
        triton.plan = plan
        before = len(triton.user_submits)
        reader, writer = await connect(gateway)
        writer.write(chat_bytes({**CHAT, "stream": stream}))
        await eventually(lambda before=before: len(triton.user_submits) > before)
        if phase == "mid_stream":
            await reader.readuntil(b"capital")
        await leave(writer, how)
        sequence = triton.user_submits[-1]["id"]
        async with asyncio.timeout(CANCEL_SECONDS + plan.accept_delay):
            await triton.heard_cancel(sequence)
        await gateway.idle()
        writer.close()
    await gateway.record(len(PHASES))
    assert {record["outcome"] for record in gateway.records} == {"client_closed"}
    await eventually(lambda: not triton.running)
    await gateway.balanced()


async def test_leaving_the_queue(start: Start, triton: FakeTriton) -> None:
    gateway = await start(max_batch_size=1)
    triton.plan = Plan(stall_after=0)
    first = asyncio.create_task(gateway.chat())
    await eventually(lambda: triton.user_submits)
    for how in ("close", "half_close", "reset"):
        _, writer = await connect(gateway)
        writer.write(chat_bytes(CHAT))
        await eventually(lambda: waiting(gateway, 1))
        await leave(writer, how)
        await eventually(lambda: waiting(gateway, 0))
        writer.close()
    assert len(triton.user_submits) == 1 and not triton.user_cancels
    first.cancel()
    await gateway.idle()
    assert (await gateway.outcomes()) == {"client_closed": 4}
    await gateway.balanced()


async def waiting(gateway: GatewayProcess, count: int) -> bool:
    return (await gateway.status())["queue_length"] == count


async def test_the_slot_waits_for_the_engine(start: Start, triton: FakeTriton) -> None:
    gateway = await start(max_batch_size=1)
    triton.plan = Plan(texts=("a",) * 1000, gap=0.02)
    triton.may_cancel.clear()
    reader, writer = await connect(gateway)
    writer.write(chat_bytes({**CHAT, "stream": True}))
    await reader.readuntil(b'"a"')
    writer.close()
    await gateway.record()
    assert await in_use(gateway) == 1, "the client has left, but the engine still runs the sequence"
    triton.plan = Plan()
    next_one = asyncio.create_task(gateway.chat())
    await eventually(lambda: waiting(gateway, 1))
    await eventually(lambda: wasted_some(gateway))
    triton.may_cancel.set()
    assert (await next_one)[0] == 200
    assert triton.user_submits[0]["id"] in triton.cancelled, "the next one came before the engine confirmed"


async def wasted_some(gateway: GatewayProcess) -> bool:
    return await gateway.metric("localmodel_gateway_wasted_tokens_total") > 0


async def test_pipelined_requests_and_a_client_that_leaves(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    triton.plan = Plan(stall_after=0)
    _, writer = await connect(gateway)
    writer.write(chat_bytes(CHAT) * 3)
    await eventually(lambda: triton.user_submits)
    writer.close()
    await gateway.record(3)
    assert await gateway.outcomes() == {"client_closed": 3}
    await gateway.idle()
    await gateway.balanced()


async def test_leaving_with_the_request(start: Start, triton: FakeTriton) -> None:
    """The request and the end of the connection arrive together: there is a record, and nothing runs."""
    gateway = await start()
    triton.plan = Plan(stall_after=0)
    for _ in range(20):
        _, writer = await connect(gateway)
        writer.write(chat_bytes(CHAT))
        writer.close()
    await gateway.record(20)
    assert await gateway.outcomes() == {"client_closed": 20}
    await gateway.idle()
    await eventually(lambda: not triton.running)


async def test_mixed_endings_leave_no_slot(start: Start, triton: FakeTriton) -> None:
    gateway = await start(max_batch_size=8, concurrency={"queue": 500})
    triton.plan = Plan(texts=("a",) * 20, gap=0.004)

    async def one(number: int) -> int:
        reader, writer = await connect(gateway)
        writer.write(chat_bytes({**CHAT, "stream": number % 2 == 0, "seed": number}))
        try:
            async with asyncio.timeout(0.002 * (number % 60) if number % 3 else 30):
                head = await reader.readuntil(b"\r\n\r\n")
                if number % 2 == 0:
                    await reader.readuntil(b"[DONE]")
                return int(head.split()[1])
        except TimeoutError:
            return 0
        finally:
            writer.close()

    finished = 0
    for batch in range(5):
        results = await asyncio.gather(*(one(batch * 40 + n) for n in range(40)))
        assert set(results) <= {0, 200}
        finished += results.count(200)
    await gateway.record(200)
    await gateway.idle()
    await eventually(lambda: not triton.running)
    outcomes = await gateway.outcomes()
    assert sum(outcomes.values()) == 200
    assert outcomes["ok"] >= finished and set(outcomes) == {"ok", "client_closed"}
    await gateway.balanced()


READERS = {
    "/v1/chat/completions": json.dumps({**CHAT, "stream": True}).encode(),
    "/v2/models/llm/generate_stream": json.dumps({"REQUEST": json.dumps({"text": "a"})}).encode(),
}


async def test_a_stalled_reader_that_leaves(start: Start, triton: FakeTriton) -> None:
    """The gateway is stuck in a write to it and hears of its leaving all the same."""
    gateway = await start()
    triton.plan = Plan(texts=("a" * 60000,) * 4000, gap=0.005)
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.setblocking(False)
    host, port = gateway.url.removeprefix("http://").split(":")
    await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
    await asyncio.get_running_loop().sock_sendall(raw, chat_bytes({**CHAT, "stream": True}))
    await eventually(lambda: triton.accepted_users)
    await asyncio.sleep(0.5)
    assert triton.running, "it ended before the reader could stall"
    raw.close()
    async with asyncio.timeout(CANCEL_SECONDS):
        await triton.heard_cancel(triton.user_submits[0]["id"])
    assert (await gateway.record())["outcome"] == "client_closed"
    await gateway.idle()
    await gateway.balanced()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v2/models/llm/generate_stream"])
async def test_a_reader_that_stops_reading(start: Start, triton: FakeTriton, path: str) -> None:
    gateway = await start(timeouts={"total_seconds": 1.5})
    triton.plan = Plan(texts=("a" * 60000,) * 200, gap=0.0)
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    host, port = gateway.url.removeprefix("http://").split(":")
    await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
    await asyncio.get_running_loop().sock_sendall(raw, request(path, READERS[path]))
    record = await gateway.record()
    assert record["outcome"] == "total_timeout"
    await gateway.idle()
    raw.close()

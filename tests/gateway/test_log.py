"""The request log of the real process: complete, private, chained, and never in anybody's way."""

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateway.conftest import CHAT, ROOT, GatewayProcess, Start, eventually
from gateway.fake_triton import FakeTriton, Plan
from gateway.invariants import check_stream
from gateway.wire import chat_bytes, connect, exchange
from localmodel.api.constants import EXIT_BAD_LOG_KEY
from localmodel.gateway.chain_check import check
from localmodel.gateway.targets import list_files

LOST = 'localmodel_gateway_log_records_lost_total{{sink="{}"}}'


class Clients:
    """What clients saw, by the outcome that it amounts to."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.gateway = gateway
        self.seen: Counter[str] = Counter()

    async def ask(self, path: str = "/v1/chat/completions", body: Any = CHAT, **options: Any) -> None:
        async with await self.gateway.post(path, body, **options) as reply:
            self.saw(reply.status, await reply.read())

    async def stream(self) -> None:
        async with await self.gateway.post("/v1/chat/completions", {**CHAT, "stream": True}) as reply:
            data = await reply.read()
        self.saw(reply.status, data if reply.status != 200 or check_stream(data).done else data.rpartition(b"data: ")[2])

    def saw(self, status: int, body: bytes) -> None:
        error = json.loads(body).get("error") if body.startswith(b"{") else None
        code = error.get("code") if isinstance(error, dict) else error
        known = {"server_is_overloaded": "shed", "upstream_protocol_error": "protocol_error"}
        code = known.get(code, code)
        self.seen["ok" if status == 200 and code is None else "rejected" if 400 <= status < 500 else str(code)] += 1

    async def leave(self, running: int, waiting: int) -> None:
        """So many mid-answer, if the plan is one that stalls, and so many in the queue."""
        writers = []
        for number in range(running + waiting):
            writers.append((await connect(self.gateway))[1])
            writers[-1].write(chat_bytes({**CHAT, "stream": number % 2 == 0}))

        async def come() -> bool:
            status = await self.gateway.status()
            return (status["slots_in_use"], status["queue_length"]) == (running, waiting)

        await eventually(come)
        for writer in writers:
            writer.close()
        self.seen["client_closed"] += len(writers)


async def test_log_totals_are_metric_totals_are_what_clients_saw(start: Start, triton: FakeTriton) -> None:
    limits = {"queue_seconds": 20.0, "first_token_seconds": 3.0, "idle_seconds": 3.0, "total_seconds": 60.0}
    gateway = await start(timeouts=limits, concurrency={"max": 4, "queue": 8}, log_mode="Full")
    clients = Clients(gateway)

    for _ in range(3):
        await asyncio.gather(*(clients.ask() for _ in range(4)), *(clients.stream() for _ in range(4)))
    bad: list[Any] = [[], {}, {**CHAT, "model": "other"}, {**CHAT, "temperature": "hot"}, {**CHAT, "unknown": 1}]
    await asyncio.gather(
        *(clients.ask(body=body) for body in bad), *(clients.ask(path) for path in ("/v1/x", "/v2/x", "/v1/models"))
    )
    for head in (
        b"GET / HTTP/9.9\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 40_000 + b"\r\n\r\n",
    ):
        status, _, body = await exchange(gateway, head)
        clients.seen["rejected"] += 400 <= status <= 505 and "error" in body

    triton.plan = Plan(texts=("a", "b", "c"), gap=0.3)
    await asyncio.gather(*(clients.ask() for _ in range(10)), *(clients.stream() for _ in range(14)))
    assert clients.seen["shed"]

    triton.plan = Plan(error="the engine says no", finish="error")
    await asyncio.gather(*(clients.ask() for _ in range(3)), *(clients.stream() for _ in range(3)))
    triton.plan = Plan(stall_after=0)
    await asyncio.gather(*(clients.ask() for _ in range(2)), *(clients.stream() for _ in range(2)))
    triton.plan = Plan(stall_after=2)
    await asyncio.gather(*(clients.ask() for _ in range(2)), *(clients.stream() for _ in range(2)))
    await clients.leave(running=4, waiting=4)
    await gateway.idle()

    await gateway.balanced()
    assert await gateway.outcomes() == dict(clients.seen)
    expected = {"ok", "rejected", "shed", "client_closed", "first_token_timeout", "idle_timeout", "upstream_error"}
    assert expected <= set(clients.seen), clients.seen
    assert all(record["request_body"] is not None for record in gateway.records)

    gateway.terminate()
    assert await gateway.exit_code() == 0
    gateway.check_chain(ended=True)
    end = json.loads(gateway.raw_log.split(b"\n")[-2])
    assert end["kind"] == "end" and end["outcomes"] == dict(clients.seen) and end["lost"] == 0


async def test_full_takes_out_what_names_a_person_however_it_was_cut(start: Start, triton: FakeTriton) -> None:
    gateway = await start(log_mode="Full", redact_patterns=["Paris"])
    triton.plan = Plan(texts=("Call ", "1380", "013", "8000", " or zhang", "@bank", ".cn, in Par", "is."))
    question = {"messages": [{"role": "user", "content": "My card is ６２２２ 0212 3456 7894, what is the capital?"}]}
    for stream in (False, True):
        status, body = await gateway.chat(**question, stream=stream)
        assert status == 200 and b"Par" in body
    async with await gateway.post("/v2/models/tiny/generate_stream", {"REQUEST": '{"text": "What"}'}) as reply:
        assert reply.status == 200
        await reply.read()
    await gateway.record(3)
    unary, streamed, tritons = gateway.records
    for record in (unary, streamed):
        assert "My card is [BankCard], what" in record["request_body"]
        (choice,) = json.loads(record["response_body"])["choices"]
        assert choice["message"]["content"] == "Call [Phone] or [Email], in [Redacted]." and choice["finish_reason"] == "stop"
    assert "Call [Phone] or [Email], in [Redacted]." in tritons["response_body"]
    shown = "".join(record["request_body"] + record["response_body"] for record in gateway.records)
    assert "1380013" not in shown and "zhang" not in shown and "0212 3456" not in shown


async def test_only_what_is_asked_for_is_taken_out(start: Start, triton: FakeTriton) -> None:
    gateway = await start(log_mode="Full", redact=[])
    triton.plan = Plan(texts=("13800138000",))
    await gateway.chat()
    assert "13800138000" in (await gateway.record())["response_body"]


async def test_a_trace_goes_in_through_and_out(start: Start, triton: FakeTriton) -> None:
    gateway = await start()
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    headers = {"traceparent": f"00-{trace}-{parent}-01", "tracestate": "rojo=1"}
    paths = (("/v1/chat/completions", CHAT), ("/v2/models/tiny/generate", {"REQUEST": '{"text": "What"}'}), ("/v1/nothing", {}))
    for number, (path, body) in enumerate(paths, 1):
        async with await gateway.post(path, body, headers=headers) as reply:
            await reply.read()
        record = await gateway.record(number)
        assert (record["trace_id"], record["parent_span_id"]) == (trace, parent) and record["span_id"] != parent
        assert reply.headers["traceresponse"] == f"00-{trace}-{record['span_id']}-01"
        if number < 3:
            assert triton.traces[-1] == (reply.headers["traceresponse"], "rojo=1")
    await gateway.chat()
    record = await gateway.record(4)
    assert record["parent_span_id"] is None and record["trace_id"] not in (trace, "")


async def test_a_stalled_reader_costs_no_request(start: Start, triton: FakeTriton) -> None:
    gateway = await start(log_mode="Full")
    gateway.stall()
    refused = {**CHAT, "unknown": "x" * 70_000}
    for _ in range(30):
        statuses = await asyncio.gather(*(_status(gateway, refused) for _ in range(10)))
        assert set(statuses) == {400}
    assert (await gateway.chat(stream=True))[0] == 200

    async def lost_some() -> float:
        return await gateway.metric(LOST.format("stdout"))

    await eventually(lost_some, 60)
    gateway.resume()

    async def all_told() -> bool:
        return len(gateway.records) + await lost_some() == 301

    await eventually(all_told, 60)
    lost = await lost_some()
    assert (await gateway.chat())[0] == 200
    await eventually(lambda: len(gateway.records) == 302 - lost)
    said = [json.loads(line) for line in gateway.raw_log.split(b"\n") if b'"kind":"lost"' in line]
    assert sum(line["count"] for line in said) == lost
    assert sum((await gateway.outcomes()).values()) == 302


async def _status(gateway: GatewayProcess, body: Any) -> int:
    async with await gateway.post("/v1/chat/completions", body) as reply:
        return reply.status


async def test_a_reader_that_never_reads_again_does_not_hold_the_end(start: Start) -> None:
    gateway = await start(log_mode="Full")
    gateway.stall()
    for _ in range(10):
        await asyncio.gather(*(_status(gateway, {**CHAT, "unknown": "x" * 70_000}) for _ in range(5)))
    gateway.terminate()
    await eventually(lambda: gateway.process.returncode is not None, 30)  # wait() would also wait for the pipe
    assert gateway.process.returncode == 0


async def test_files_beside_standard_output(start: Start, tmp_path: Path) -> None:
    directory = tmp_path / "log"
    directory.mkdir()
    settings = {"log_file": {"directory": str(directory), "max_bytes": 1048576, "max_files": 3}, "log_mode": "Full"}
    gateway = await start(**settings)
    for _ in range(6):
        await asyncio.gather(*(_status(gateway, {**CHAT, "unknown": "x" * 70_000}) for _ in range(10)))
        await asyncio.sleep(0.1)
    gateway.terminate()
    assert await gateway.exit_code() == 0
    files = list_files(directory)
    assert 2 <= len(files) <= 3 and all(file.stat().st_size <= 1048576 for file in files)
    report = check([(file.name, file.read_bytes()) for file in files])
    assert report.problems == [] and report.chains[0].ended

    again = await start(**settings)
    assert (await again.chat())[0] == 200
    again.terminate()
    assert await again.exit_code() == 0
    command = (sys.executable, "-m", "localmodel.cli", "verify-log", str(directory))
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env={"PYTHONPATH": str(ROOT / "operator")}
    )
    said = (await process.communicate())[0].decode()
    assert process.returncode == 0 and said.count("chain ") >= 2 and said.endswith("The log is whole.\n"), said


async def test_a_directory_that_can_not_be_written_costs_no_request(start: Start, tmp_path: Path) -> None:
    gateway = await start(log_file={"directory": str(tmp_path / "missing"), "max_bytes": 1048576, "max_files": 3})
    for _ in range(5):
        assert (await gateway.chat())[0] == 200
    await gateway.record(5)

    async def lost() -> bool:
        return await gateway.metric(LOST.format("file")) == 5

    await eventually(lost)
    assert await gateway.metric(LOST.format("stdout")) == 0


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        ({"redact_patterns": ["(abc"]}, 2, "'(abc': missing"),
        ({"log_key_file": "/nowhere/key"}, EXIT_BAD_LOG_KEY, "the key of the log's chain can't be read"),
    ],
)
async def test_what_can_not_be_used_is_said_at_the_start(
    start: Start, capfd: pytest.CaptureFixture[str], settings: dict[str, Any], code: int, said: str
) -> None:
    gateway = await start(wait=False, **settings)
    assert await asyncio.wait_for(gateway.process.wait(), 60) == code
    assert said in capfd.readouterr().err


async def test_a_key_makes_the_chain_an_hmac(start: Start, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"0123456789abcdef\n")
    gateway = await start(log_key_file=str(tmp_path / "key"))
    await gateway.chat()
    gateway.terminate()
    assert await gateway.exit_code() == 0
    log = [("stdout", gateway.raw_log)]
    assert check(log, b"0123456789abcdef").problems == [] and check(log, b"fedcba9876543210").problems
    gateway._lines.clear()  # what the fixture checks is checked here, with the key

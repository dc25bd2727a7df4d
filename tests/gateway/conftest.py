"""Starts the real gateway process before a scripted Triton, and checks at the end of every test that its books balance."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.fake_triton import FakeTriton
from gateway.tiny_model import write_tiny_model
from localmodel.gateway.chain_check import check
from ports import free_ports

ROOT = Path(__file__).resolve().parents[2]


async def eventually(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Waits until the condition, which may be a coroutine function, is true, and returns it."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        assert asyncio.get_running_loop().time() < deadline, "it never became true"
        await asyncio.sleep(0.02)


@dataclass
class GatewayProcess:
    url: str
    admin: str
    session: aiohttp.ClientSession
    settings: dict[str, Any]
    process: asyncio.subprocess.Process
    _reading: asyncio.Event = field(default_factory=asyncio.Event)
    _collected: asyncio.Event = field(default_factory=asyncio.Event)
    _lines: bytearray = field(default_factory=bytearray)

    async def collect(self) -> None:
        assert self.process.stdout is not None
        while chunk := await self.process.stdout.read(65536):
            self._lines += chunk
            await self._reading.wait()
        self._collected.set()

    def stall(self) -> None:
        """Nobody reads the log any more."""
        self._reading.clear()

    def resume(self) -> None:
        self._reading.set()

    @property
    def records(self) -> list[dict[str, Any]]:
        """Of requests; the log's own checkpoints are not among them."""
        lines = [json.loads(line) for line in bytes(self._lines).splitlines(keepends=True) if line.endswith(b"\n")]
        return [line for line in lines if "request_id" in line]

    @property
    def raw_log(self) -> bytes:
        return bytes(self._lines)

    def check_chain(self, *, ended: bool = False) -> None:
        """Nothing of the log is missing, in whatever way the test treated the gateway."""
        report = check([("stdout", self.raw_log)], running=not ended)
        assert report.problems == [], [str(problem) for problem in report.problems]

    async def record(self, count: int = 1) -> dict[str, Any]:
        """The last of exactly `count` records."""
        await eventually(lambda: len(self.records) >= count)
        assert len(self.records) == count, self.records
        return self.records[-1]

    async def status(self) -> dict[str, Any]:
        async with self.session.get(f"{self.admin}/status") as reply:
            assert reply.status == 200
            return await reply.json()

    async def code(self, path: str) -> int:
        async with self.session.get(self.admin + path) as reply:
            return reply.status

    async def metrics(self) -> str:
        async with self.session.get(f"{self.admin}/metrics") as reply:
            return await reply.text()

    async def metric(self, name: str) -> float:
        """The value of a metric, with its labels as Prometheus writes them."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", await self.metrics(), re.M)
        assert found, name
        return float(found[1])

    async def outcomes(self) -> dict[str, int]:
        """requests_total by outcome."""
        found: dict[str, int] = {}
        for outcome, value in re.findall(r'^localmodel_gateway_requests_total\{.*?outcome="(\w+)".*?\} (\S+)$',
                                         await self.metrics(), re.M):  # fmt: skip
            if float(value):
                found[outcome] = found.get(outcome, 0) + int(float(value))
        return found

    async def ready(self) -> None:
        await eventually(lambda: self._is_ready(), 90)

    async def _is_ready(self) -> bool:
        try:
            return await self.code("/readyz") == 200
        except aiohttp.ClientError:
            assert self.process.returncode is None, "the gateway ended"
            return False

    async def idle(self) -> None:
        """No slot in use: every sequence has ended or its cancel is confirmed."""

        async def free() -> bool:
            status = await self.status()
            return status["slots_in_use"] == 0 and status["queue_length"] == 0

        await eventually(free)

    async def balanced(self) -> None:
        """Metrics totals are log totals, of requests and of tokens."""

        async def same() -> bool:
            for kind in ("prompt", "completion"):
                counted = sum(record[f"{kind}_tokens"] or 0 for record in self.records)
                if counted != await self.metric(f'localmodel_gateway_tokens_total{{kind="{kind}"}}'):
                    return False
            logged: dict[str, int] = {}
            for record in self.records:
                logged[record["outcome"]] = logged.get(record["outcome"], 0) + 1
            return await self.outcomes() == logged

        await eventually(same)
        ids = [record["request_id"] for record in self.records]
        assert len(ids) == len(set(ids)), "a request with two records"

    async def post(self, path: str, body: Any, **options: Any) -> aiohttp.ClientResponse:
        return await self.session.post(self.url + path, json=body, **options)

    async def chat(self, **fields: Any) -> tuple[int, bytes]:
        async with await self.post("/v1/chat/completions", {**CHAT, **fields}) as reply:
            return reply.status, await reply.read()

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def exit_code(self, seconds: float = 60.0) -> int:
        """When it has ended and all of its log is read, which may be later."""
        async with asyncio.timeout(seconds):
            await self.process.wait()
            await self._collected.wait()
        assert self.process.returncode is not None
        return self.process.returncode


CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "What is the capital of France?"}]}


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
async def triton() -> AsyncIterator[FakeTriton]:
    (port,) = free_ports(1)
    fake = FakeTriton(port)
    await fake.start()
    yield fake
    await fake.die()


Start = Callable[..., Awaitable[GatewayProcess]]


@pytest.fixture
async def start(triton: FakeTriton, tiny_model: Path, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts one gateway with settings given as keywords."""
    started: list[tuple[GatewayProcess, asyncio.Task[None]]] = []
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def begin(*, wait: bool = True, **changes: Any) -> GatewayProcess:
        serving, admin = free_ports(2)
        settings: dict[str, Any] = {
            "model_name": "tiny-model", "served_names": ["tiny", "org/tiny"], "context_window": 512, "max_batch_size": 4,
            "model_path": str(tiny_model), "serving_host": "127.0.0.1", "serving_port": serving, "admin_host": "127.0.0.1",
            "admin_port": admin, "triton_url": f"http://127.0.0.1:{triton.port}",
            "channel_token_file": str(tmp_path / "token"), "endpoint_removal_seconds": 0.2, **changes,
        }  # fmt: skip
        file = tmp_path / f"gateway-{serving}.json"
        file.write_text(json.dumps(settings))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "localmodel.gateway", "--settings", str(file), stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT / "operator"), "POD_NAME": "pod-1"},
        )  # fmt: skip
        gateway = GatewayProcess(f"http://127.0.0.1:{serving}", f"http://127.0.0.1:{admin}", session, settings, process)
        gateway.resume()
        started.append((gateway, asyncio.create_task(gateway.collect())))
        if wait:
            await gateway.ready()
        return gateway

    yield begin
    await session.close()
    for gateway, reader in started:
        if gateway.process.returncode is None:
            gateway.process.kill()
        await gateway.process.wait()
        gateway.resume()
        await reader
        gateway.check_chain()

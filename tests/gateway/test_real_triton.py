"""The gateway before the real tritonserver with the real engine and weights: answers, cancels, death."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

import weights
from gateway.conftest import ROOT, GatewayProcess, Start, eventually
from gateway.invariants import check_stream
from gateway.wire import chat_bytes, connect
from localmodel.cli.triton_runtime import triton_command
from ports import free_ports

pytestmark = pytest.mark.triton

QUESTION = [{"role": "user", "content": "Name the capital of France."}]
PATIENCE = 120


class RealTriton:
    """tritonserver as a plain process, started again on the same port at will."""

    def __init__(self, directory: Path, model: Path, window: int = 512, threads: int = 1) -> None:
        self.port = free_ports(1)[0]
        self.model = model
        self.token = directory / "token"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        config = {
            "model_path": str(model), "channel_token_file": str(self.token), "context_window": window, "max_batch_size": 8,
            "cpu_threads": threads,
        }  # fmt: skip
        llm = directory / "repository" / "llm"
        (llm / "1").mkdir(parents=True)
        for name in ("config.pbtxt", "1/model.py"):
            (llm / name).write_bytes((ROOT / "model_repo" / "llm" / name).read_bytes())
        (llm / "1" / "model.json").write_text(json.dumps(config))

    def start(self) -> None:
        command = triton_command(self._directory / "repository", self._directory, self.port)
        with (self._directory / "triton.log").open("ab") as log:
            self._process = subprocess.Popen(command.argv, env=command.env, stdout=log, stderr=log, start_new_session=True)

    def kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def has_ended(self) -> bool:
        """By itself, which it should not."""
        return self._process is not None and self._process.poll() is not None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def configure(self, **changes: Any) -> None:
        """Before the load."""
        file = self._directory / "repository" / "llm" / "1" / "model.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    def append_to_shim(self, code: str) -> None:
        """Before the load."""
        with (self._directory / "repository" / "llm" / "1" / "model.py").open("a") as shim:
            shim.write(code)

    def stubs(self) -> list[int]:
        """Process ids of the engine."""
        assert self._process is not None
        found = subprocess.run(["pgrep", "-P", str(self._process.pid), "-f", "stub"], capture_output=True, text=True)
        return [int(pid) for pid in found.stdout.split()]

    def signal_stub(self, number: signal.Signals) -> None:
        for pid in self.stubs():
            os.kill(pid, number)

    def settings(self) -> dict[str, Any]:
        return {
            "triton_url": f"http://127.0.0.1:{self.port}", "model_path": str(self.model), "max_batch_size": 8,
            "channel_token_file": str(self.token), "concurrency": {"queue": 300},
            "timeouts": {"queue_seconds": PATIENCE, "first_token_seconds": PATIENCE, "idle_seconds": PATIENCE},
        }  # fmt: skip


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[RealTriton]:
    triton = RealTriton(tmp_path, weights.make(weights.default_destination()))
    triton.start()
    yield triton
    triton.kill()


async def begin(start: Start, real: RealTriton) -> GatewayProcess:
    gateway = await start(wait=False, **real.settings())
    await eventually(lambda: is_ready(gateway), PATIENCE)
    return gateway


async def is_ready(gateway: GatewayProcess) -> bool:
    try:
        return await gateway.code("/readyz") == 200
    except OSError:
        return False


async def engine(gateway: GatewayProcess) -> dict[str, Any]:
    return (await gateway.status())["backend"]["engine"] or {}


async def engine_is_idle(gateway: GatewayProcess) -> bool:
    status = await engine(gateway)
    return bool(status) and status["running"] == status["waiting"] == 0


async def test_paris_and_two_hundred_mixed_cancels(start: Start, real: RealTriton) -> None:
    gateway = await begin(start, real)
    client = openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE)
    answer = await client.chat.completions.create(model="tiny", messages=QUESTION, temperature=0, max_tokens=16)
    assert "Paris" in (answer.choices[0].message.content or "")
    stream = await client.chat.completions.create(model="tiny", messages=QUESTION, temperature=0, max_tokens=16, stream=True)
    text = "".join([c.choices[0].delta.content or "" async for c in stream])
    assert text == answer.choices[0].message.content
    plain = await client.completions.create(model="tiny", prompt="The capital of France is", temperature=0, max_tokens=4)
    assert "Paris" in plain.choices[0].text
    body = json.dumps({"text": "The capital of France is", "sampling": {"temperature": 0, "max_tokens": 4}})
    async with await gateway.post("/v2/models/tiny/generate", {"REQUEST": body}) as reply:
        assert reply.status == 200 and "Paris" in await reply.text()
    await client.close()

    width = asyncio.Semaphore(16)

    async def one(number: int) -> None:
        async with width:
            reader, writer = await connect(gateway)
            fields = {"model": "tiny", "messages": QUESTION, "max_tokens": 24, "seed": number, "stream": number % 2 == 0}
            writer.write(chat_bytes(fields))
            try:
                async with asyncio.timeout(0.004 * (number % 50) if number % 10 else PATIENCE):
                    await reader.readuntil(b"[DONE]" if number % 2 == 0 else b'"usage"')
            except TimeoutError:
                pass
            if number % 3 == 0:
                writer.write_eof()
                await asyncio.sleep(0)
            writer.close()

    await asyncio.gather(*(one(number) for number in range(200)))
    await eventually(lambda: idle(gateway), PATIENCE)
    await eventually(lambda: engine_is_idle(gateway), PATIENCE)
    assert (await engine(gateway))["kv_tokens_used"] == 0
    await gateway.record(204)
    outcomes = await gateway.outcomes()
    assert sum(outcomes.values()) == 204 and set(outcomes) == {"ok", "client_closed"}
    assert outcomes["ok"] >= 24
    await gateway.balanced()


async def idle(gateway: GatewayProcess) -> bool:
    return (await gateway.status())["slots_in_use"] == 0


async def test_death_and_hang_of_the_engine(start: Start, real: RealTriton) -> None:
    gateway = await begin(start, real)
    story = [{"role": "user", "content": "Write a long story about a dragon and a princess."}]
    long = {"messages": story, "max_tokens": 450, "stream": True, "temperature": 0, "model": "tiny"}
    for end in (lambda: real.signal_stub(signal.SIGKILL), real.kill):
        async with await gateway.post("/v1/chat/completions", long) as reply:  # a head comes with the first text
            end()
            stream = check_stream(await asyncio.wait_for(reply.read(), PATIENCE))
        assert stream.error is not None and stream.error["code"] == "upstream_error"
        if end == real.kill:
            await eventually(lambda: has_state(gateway, "Unreachable"))
            real.start()
        await serve_again(gateway, real)
        assert "Paris" in (await gateway.chat(messages=QUESTION, temperature=0, max_tokens=16))[1].decode()
        await eventually(lambda: idle(gateway))

    os.killpg(real.pid, signal.SIGSTOP)
    await eventually(lambda: not_ready(gateway), 30)
    assert (await gateway.status())["reason"] == "BackendHung"
    os.killpg(real.pid, signal.SIGCONT)
    await eventually(lambda: is_ready(gateway), PATIENCE)

    real.signal_stub(signal.SIGSTOP)
    await eventually(lambda: not_ready(gateway), 30)
    await serve_again(gateway, real)
    assert (await gateway.chat(messages=QUESTION, temperature=0, max_tokens=16))[0] == 200
    await gateway.balanced()


FAULTS = """

import time
import torch
from localmodel.engine.publisher import Publisher
from localmodel.engine.runner import Runner

_run = Runner.run
Publisher.__init__.__defaults__ = (3.0,)  # of the limit of a step


def run(self, works):
    for work in works:
        sampling, answer = work.sequence.sampling, work.sequence.answer
        if len(answer) >= 5 and sampling.seed == 66601:
            torch.zeros(1 << 60)
        if len(answer) >= 5 and sampling.seed == 66602:
            time.sleep(600)
        if len(answer) >= 5 and sampling.seed == 66603:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
    return _run(self, works)


Runner.run = run
"""
"""Behind the shim, so that requests with these seeds make a step fail. On a CPU the memory really runs out."""


@pytest.mark.parametrize(
    "seed, code, words",
    [
        (66601, "engine_out_of_memory", "can't allocate memory"),
        (66602, "engine_step_hung", "has been running for"),
        (66603, "engine_device_failed", "illegal memory access"),
    ],
)
async def test_a_failed_step_ends_requests_with_its_cause(
    start: Start, real: RealTriton, seed: int, code: str, words: str
) -> None:
    real.append_to_shim(FAULTS)
    gateway = await begin(start, real)
    (stub,) = real.stubs()
    story = {"messages": [{"role": "user", "content": "Write a story of a dragon."}], "max_tokens": 450, "model": "tiny"}
    innocent = asyncio.create_task(gateway.chat(stream=True, temperature=0, **story))
    await eventually(lambda: engine_runs(gateway), PATIENCE)  # the engine's own word is up to two seconds old
    status, raw = await gateway.chat(stream=True, seed=seed, **story)
    for answered, body in ((status, raw), await innocent):
        error = check_stream(body).error
        assert answered == 200 and error is not None and error["code"] == code
        assert words in error["message"]
    await eventually(lambda: has_failed(gateway, words))
    await serve_again(gateway, real)
    assert real.stubs() != [stub], "the process that failed has ended"
    assert (await gateway.chat(messages=QUESTION, max_tokens=16))[0] == 200
    await eventually(lambda: idle(gateway))
    await gateway.balanced()


async def serve_again(gateway: GatewayProcess, real: RealTriton) -> None:
    """Waits, as the kubelet would: a Triton that does not survive the end of the engine's process is started anew.

    2.51 sometimes does not: it aborts when it notices, or stops answering when it is asked to unload the model.
    """
    failures = 0
    async with asyncio.timeout(PATIENCE):
        while not await is_ready(gateway):
            failures = 0 if await gateway.code("/livez/backend") == 200 else failures + 1
            if real.has_ended() or failures == 10:
                real.kill()
                real.start()
            await asyncio.sleep(1)


async def test_a_killed_gateway_leaves_nothing_running(start: Start, real: RealTriton) -> None:
    real.configure(reconnect_grace_seconds=1.0)
    gateway = await begin(start, real)
    story = [{"role": "user", "content": "Write a long story about a dragon and a princess."}]
    fields = {"messages": story, "max_tokens": 450, "temperature": 0, "model": "tiny"}
    held = [asyncio.create_task(gateway.chat(stream=number < 4, **fields)) for number in range(8)]
    await eventually(lambda: engine_runs(gateway, 8), PATIENCE)
    gateway.process.kill()
    await asyncio.gather(*held, return_exceptions=True)
    second = await begin(start, real)
    await eventually(lambda: engine_is_idle(second), PATIENCE)
    status = await engine(second)
    assert status["kv_tokens_used"] == 0 and status["tokens_total"] < 8 * 450, "they were dropped, not finished"
    assert "Paris" in (await second.chat(messages=QUESTION, temperature=0, max_tokens=16))[1].decode()


async def engine_runs(gateway: GatewayProcess, count: int = 1) -> bool:
    return int((await gateway.status())["slots_in_use"]) >= count


async def has_state(gateway: GatewayProcess, state: str) -> bool:
    return bool((await gateway.status())["backend"]["state"] == state)


async def has_failed(gateway: GatewayProcess, words: str) -> bool:
    return words in (await gateway.status())["backend"]["last_failure"]


async def not_ready(gateway: GatewayProcess) -> bool:
    return await gateway.code("/readyz") == 503

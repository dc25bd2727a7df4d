"""A whole run with stand-ins: a "Triton" that sleeps and a "gateway" that says what the test tells it to say."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from localmodel.api.gateway import BackendStatus, GatewayStatus
from localmodel.cli.launch import Launch
from localmodel.cli.machine import find_free_port
from localmodel.cli.problems import RunFailed
from localmodel.cli.ready import describe_embedding_ready, describe_ready, explain_failure
from localmodel.cli.session import HUNG_SECONDS, INTERRUPTED, POLL_SECONDS, Session
from localmodel.core.hints import hint

TRITON = """
import signal, sys, time
def end(*_):
    print("triton ends", flush=True)
    open(sys.argv[1], "a").write("triton\\n")
    sys.exit()
signal.signal(signal.SIGTERM, end)
open(sys.argv[1] + ".lives", "w").close()
while True: time.sleep(1)
"""
GATEWAY = """
import http.server, os, signal, sys, threading, time
port, status, order, drain = int(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(open(status, "rb").read())
    def do_POST(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(b'data: {"choices": [{"delta": {"content": "Paris"}}]}\\ndata: [DONE]\\n')
    def log_message(self, *_): pass
def end(*_):
    time.sleep(drain)
    open(order, "a").write("gateway\\n")
    os._exit(0)
signal.signal(signal.SIGTERM, end)
while not os.path.exists(order + ".lives"): time.sleep(0.01)
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


class Stage:
    """Stand-ins in `directory`; what /status says is set by `say`, and `order` records who ended when."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = find_free_port()
        self.status, self.order = directory / "status.json", directory / "order"
        self.say("Loading")

    def say(self, state: str, *, ready: bool = False, message: str = "", since_seconds: float = 0) -> None:
        backend = BackendStatus(state=state, message=message, since_seconds=since_seconds)
        status = GatewayStatus(
            pod="p", model="m", version="", gateway_version="0", ready=ready, reason="Ready" if ready else state,
            draining=False, slots=1, slots_in_use=0, queue_length=0, backend=backend,
        )  # fmt: skip
        draft = self.directory / "draft"
        draft.write_text(status.model_dump_json())
        draft.rename(self.status)

    def session(self, question: str | None = None, *, triton: str = TRITON, drain_seconds: float = 0) -> Session:
        url = f"http://127.0.0.1:{self.port}"
        gateway = [str(self.port), str(self.status), str(self.order), str(drain_seconds)]
        return Session(
            Launch(
                model_name="m", served_name="m", base_url=f"{url}/v1", admin_url=url,
                triton_argv=[sys.executable, "-c", triton, str(self.order)], triton_env=os.environ,
                gateway_argv=[sys.executable, "-c", GATEWAY, *gateway], gateway_env=os.environ,
                logs=self.directory, drain_seconds=600,
            ),
            question,
        )  # fmt: skip


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


async def wait_for_line(capsys: pytest.CaptureFixture[str], text: str, seen: list[str]) -> None:
    async with asyncio.timeout(60):
        while text not in "".join(seen):
            seen.append(capsys.readouterr().out)
            await asyncio.sleep(0.02)


async def test_ready_then_an_interrupt_ends_the_gateway_before_triton(stage, capsys):
    seen: list[str] = []
    running = asyncio.create_task(stage.session().run())
    await wait_for_line(capsys, "Loading", seen)
    stage.say("Ready", ready=True)
    await wait_for_line(capsys, f"Ready: http://127.0.0.1:{stage.port}/v1", seen)
    os.kill(os.getpid(), signal.SIGINT)
    assert await running == 0
    assert stage.order.read_text().split() == ["gateway", "triton"]
    assert "Stopped" in capsys.readouterr().out


async def test_the_second_interrupt_does_not_wait(stage, capsys):
    stage.say("Ready", ready=True)
    running = asyncio.create_task(stage.session(drain_seconds=600).run())
    await wait_for_line(capsys, "Ready: ", [])
    os.kill(os.getpid(), signal.SIGTERM)
    await wait_for_line(capsys, "Ctrl-C again", [])
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == INTERRUPTED
    assert not stage.order.exists()


async def test_a_load_failure_is_told_with_its_code_and_ends_both(stage):
    stage.say("LoadFailed", message="[ModelFilesCorrupt] model.safetensors is cut\n\nAt:\n  model.py(1)")
    with pytest.raises(RunFailed, match="ModelFilesCorrupt") as failure:
        await stage.session().run()
    assert failure.value.exit_code == 1
    assert str(failure.value).splitlines()[1:] == ["model.safetensors is cut", f"What to do: {hint('ModelFilesCorrupt')}"]
    assert hint("ModelFilesCorrupt")
    assert sorted(stage.order.read_text().split()) == ["gateway", "triton"]


async def test_a_triton_that_never_lives_is_given_up_with_its_last_words(stage):
    with pytest.raises(RunFailed, match=r"Triton ends each time it is started(.|\n)*libcuda is not here"):
        await stage.session(triton="raise SystemExit('libcuda is not here')").run()


async def test_a_question_is_answered_and_both_end(stage, capsys):
    stage.say("Ready", ready=True)
    assert await stage.session("What is the capital of France?").run() == 0
    assert "> What is the capital of France?\nParis\n" in capsys.readouterr().out
    assert stage.order.read_text().split() == ["gateway", "triton"]


async def test_triton_killed_after_ready_comes_back(stage, capsys):
    seen: list[str] = []
    stage.say("Ready", ready=True)
    running = asyncio.create_task(stage.session().run())
    await wait_for_line(capsys, "Ready: ", seen)
    os.kill(int("".join(seen).split("Triton started (pid ")[1].split(")")[0]), signal.SIGKILL)
    stage.say("Unreachable")
    await wait_for_line(capsys, "Not ready any more", seen)
    after = ["".join(seen).partition("Triton started")[2]]
    await wait_for_line(capsys, "Triton ended (signal SIGKILL); starting it again", after)
    await wait_for_line(capsys, "Triton started (pid ", after)
    stage.say("Ready", ready=True)
    await wait_for_line(capsys, "Ready again", after)
    os.kill(os.getpid(), signal.SIGINT)
    assert await running == 0


async def test_a_hung_engine_is_ended_once_and_started_again(stage, capsys):
    seen: list[str] = []
    stage.say("Ready", ready=True)
    running = asyncio.create_task(stage.session().run())
    await wait_for_line(capsys, "Ready: ", seen)
    stage.say("Hung", since_seconds=HUNG_SECONDS - 1)
    await wait_for_line(capsys, "Hung", seen)
    assert "ending Triton" not in "".join(seen)
    stage.say("Hung", since_seconds=HUNG_SECONDS)
    after: list[str] = []
    await wait_for_line(capsys, "Triton started (pid ", after)
    await asyncio.sleep(4 * POLL_SECONDS)
    stage.say("Ready", ready=True)
    await wait_for_line(capsys, "Ready again", after)
    assert "".join(after).count("ending Triton") == 1
    assert "".join(after).count("Triton ended") == 1
    os.kill(os.getpid(), signal.SIGINT)
    assert await running == 0


def test_a_failure_that_is_not_the_engines_is_shown_as_it_is():
    text = explain_failure("no backend 'python'\n")
    assert text.startswith("The model can't be served: no backend 'python'\nWhat to do: ")


@pytest.mark.parametrize("describe", [describe_ready, describe_embedding_ready])
@pytest.mark.parametrize("keyed", [False, True])
def test_the_ready_text_can_be_copied(describe, keyed):
    text = describe("http://127.0.0.1:8080/v1", "http://127.0.0.1:9090", "qwen", keyed=keyed)
    assert text.count("LOCALMODEL_API_KEY") == 2 * keyed and ('api_key="none"' in text) != keyed
    body = text.split("-d '")[1].split("'")[0]
    assert json.loads(body)["model"] == "qwen"
    compile("\n".join(line.strip() for line in text.split("\n\n")[1].splitlines()), "snippet", "exec")
    assert "browser" not in text
    assert "  Chat in a browser: http://x:1/\n\n  curl " in describe_ready("http://x:1/v1", "http://x:2", "qwen", "http://x:1/")

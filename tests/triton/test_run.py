"""`localmodel run` as a user starts it: the real Triton, engine and gateway with real weights, and what a user can do to it."""

import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest

import weights
from ports import free_ports
from predict_models import write_bags

pytestmark = pytest.mark.triton
ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "smollm2.yaml"
EMBEDDING_EXAMPLE = ROOT / "examples" / "minilm.yaml"
PREDICT_EXAMPLE = ROOT / "examples" / "classifier.yaml"
QUESTION = [{"role": "user", "content": "Name the capital of France."}]


class Run:
    """The command, its output so far, and a client of what it serves."""

    def __init__(self, file: Path, *arguments: str) -> None:
        self.port, self.admin_port = free_ports(2)
        command = [sys.executable, "-m", "localmodel.cli", "run", str(file)]
        ports = ["--port", str(self.port), "--admin-port", str(self.admin_port)]
        self.process = subprocess.Popen(
            [*command, *ports, *arguments], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT / "operator")},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.output = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.output += line

    def wait_for(self, text: str, seconds: float = 120) -> None:
        wait_until(lambda: text in self.output or self.process.poll() is not None, self, seconds)
        assert text in self.output, self.output

    def wait_for_end(self, seconds: float = 120) -> int:
        code = self.process.wait(seconds)
        self._reader.join(seconds)
        return code

    def pids(self, name: str) -> list[int]:
        return [int(pid) for pid in re.findall(rf"{name} started \(pid (\d+)\)", self.output)]

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key="none", max_retries=0, timeout=60)

    def ask(self) -> str:
        with self.client() as client:
            answer = client.chat.completions.create(model="smollm2", messages=QUESTION, temperature=0, max_tokens=24)
        return answer.choices[0].message.content or ""


def wait_until(true: Callable[[], object], run: Run, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s:\n{run.output}"
        time.sleep(0.05)


def list_group(leader: int) -> list[str]:
    """Command lines of living processes in the group of `leader`."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(group) == leader and state != "Z":
                found.append((stat.parent / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def model_directory() -> Path:
    return weights.make(weights.default_destination())


@pytest.fixture
def start(model_directory: Path) -> Iterator[Callable[..., Run]]:
    """Starts runs; none outlives the test."""
    runs: list[Run] = []

    def start_run(file: Path = EXAMPLE, *arguments: str, claim: Path = model_directory.parent) -> Run:
        runs.append(Run(file, "--claim", f"models={claim}", *arguments))
        return runs[-1]

    yield start_run
    for run in runs:
        run.process.kill()
        run.process.wait()


def test_a_model_that_makes_embeddings_is_served_by_the_same_command(start):
    weights.make(weights.default_destination("minilm-l6-v2"), weights.MINILM)
    run = start(EMBEDDING_EXAMPLE)
    run.wait_for("Ctrl-C ends it")
    assert "client.embeddings.create" in run.output
    texts = ["A cat sleeps on the sofa.", "A kitten rests on a couch.", "The bank raised interest rates."]
    with run.client() as client:
        answer = client.embeddings.create(model="minilm", input=texts)
        with pytest.raises(openai.BadRequestError, match="/v1/embeddings"):
            client.chat.completions.create(model="minilm", messages=QUESTION)
    cat, kitten, bank = (entry.embedding for entry in answer.data)
    assert math.hypot(*cat) == pytest.approx(1, abs=1e-4)
    near, far = (sum(a * b for a, b in zip(cat, other, strict=True)) for other in (kitten, bank))
    assert near > 0.5 > far


def test_a_network_of_tensors_is_served_and_the_command_it_prints_works(start, tmp_path):
    write_bags(tmp_path / "classifier")
    run = start(PREDICT_EXAMPLE, claim=tmp_path)
    run.wait_for("Ctrl-C ends it")
    assert "ids INT64 [-1, -1], scale FP32 [-1, 1] -> classes FP32 [-1, 3], best INT64 [-1, 1]" in run.output
    url, body = re.search(r"curl (\S+/infer) .* -d '(.*)'", run.output).groups()
    request = urllib.request.Request(url, body.encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert [output["shape"] for output in json.load(answer)["outputs"]] == [[1, 3], [1, 1]]


def test_answers_survives_a_killed_triton_and_leaves_nothing(start):
    run = start()
    run.wait_for("Ctrl-C ends it")
    assert "Paris" in run.ask()

    first = run.pids("Triton")[0]
    assert len(list_group(first)) > 1, "Triton has no stub process: the check below could not fail"
    private = re.search(r"logs are in (\S+)", run.output)[1]
    assert list(Path("/dev/shm").glob(f"{Path(private).name}*")), "no shared memory: the check below could not fail"
    os.kill(first, signal.SIGKILL)
    run.wait_for("Ready again")
    assert "Triton ended (signal SIGKILL)" in run.output
    assert list_group(first) == []
    assert "Paris" in run.ask()

    with run.client() as client:
        stream = client.chat.completions.create(
            model="smollm2",
            messages=[{"role": "user", "content": "Count to thirty."}],
            stream=True,
            temperature=0,
            max_tokens=100,
        )
        chunks = [next(stream)]
        run.process.send_signal(signal.SIGINT)
        chunks += list(stream)
    assert chunks[-1].choices[0].finish_reason, "the answer that was running at Ctrl-C was cut"
    assert run.wait_for_end() == 0
    leaders = run.pids("Triton") + run.pids("Gateway")
    assert len(leaders) == 3
    assert [list_group(pid) for pid in leaders] == [[], [], []]
    assert not Path(private).exists()
    assert list(Path("/dev/shm").glob(f"{Path(private).name}*")) == []


def test_a_question_on_the_command_line(start, tmp_path):
    run = start(EXAMPLE, "--ask", "Name the capital of France.", "--logs", str(tmp_path / "logs"))
    assert run.wait_for_end() == 0
    assert "Paris" in run.output.partition("> Name the")[2]
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["gateway.log", "triton.log"]


def test_a_taken_port_is_told_before_anything_starts(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        run = start(EXAMPLE, "--port", str(taken.getsockname()[1]))
        assert run.wait_for_end() == 2
    assert "is already taken" in run.output
    assert "--port PORT" in run.output
    assert "started" not in run.output


def test_a_truncated_model_is_told_with_code_and_hint(start, model_directory, tmp_path):
    broken = tmp_path / model_directory.name
    shutil.copytree(model_directory, broken)
    os.truncate(broken / "model.safetensors", (broken / "model.safetensors").stat().st_size // 2)
    run = start(claim=tmp_path)
    assert run.wait_for_end() == 1
    assert "ModelFilesCorrupt" in run.output
    assert "model.safetensors" in run.output
    assert "What to do: " in run.output
    assert "Traceback" not in run.output


def test_a_missing_directory_is_told_with_the_option(start, tmp_path):
    run = start(claim=tmp_path)
    assert run.wait_for_end() == 2
    assert "does not exist" in run.output
    assert "--claim NAME=DIR" in run.output

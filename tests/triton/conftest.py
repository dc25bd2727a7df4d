"""The real tritonserver with the real weights, and a small client of the channel."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from tokenizers import Tokenizer

import weights
from localmodel.cli.triton_runtime import triton_command
from localmodel.gateway.wire import read_batch
from ports import free_ports

REPOSITORY = Path(__file__).parents[2] / "model_repo"
PATIENCE = 60.0
"""Seconds that anything may take on a busy machine before a test gives up."""


def wait_until(condition, what, seconds=PATIENCE):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if result := condition():
            return result
        time.sleep(0.005)
    raise AssertionError(f"waited {seconds} s in vain: {what}")


class EventStream:
    """One open `events` request, read by a thread."""

    def __init__(self, server, **document):
        self.connection, response = server.open("/v2/models/llm/generate_stream", document)
        self.batches = []
        self.times = []
        self.refusal = None
        self.ended = threading.Event()
        threading.Thread(target=self._read, args=(response,), daemon=True).start()
        wait_until(lambda: self.batches or self.refusal or self.ended.is_set(), "the first response")

    def _read(self, response):
        try:
            for line in response:
                if line.startswith(b"data: "):
                    answer = json.loads(line[6:])["RESPONSE"]
                    if answer.startswith("["):
                        self.batches.append(read_batch(answer))
                        self.times.append(time.monotonic())
                    else:
                        self.refusal = json.loads(answer)
        except (OSError, ValueError, http.client.HTTPException, AttributeError):
            pass
        self.ended.set()

    def cut(self):
        self.connection.sock.shutdown(socket.SHUT_RDWR)
        self.ended.wait(PATIENCE)

    @property
    def last(self):
        return self.batches[-1].number

    def events(self, id_):
        return [event for batch in list(self.batches) for event in batch.events if event.id == id_]

    def text(self, id_):
        return "".join(event.text for event in self.events(id_))

    def end(self, id_):
        """Waits for the last event of a sequence."""
        return wait_until(lambda: next((e for e in self.events(id_) if e.finish_reason), None), f"the end of {id_}")


class Server:
    """tritonserver in explicit mode, over a copy of model_repo."""

    def __init__(self, directory: Path, model: Path, **changes):
        self.directory = directory
        self.tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        self.settings = {
            "model_path": str(model), "channel_token_file": str(directory / "run" / "token"), "context_window": 1024,
            "max_batch_size": 4, "cpu_threads": 1, "reconnect_grace_seconds": 3.0, "model_version": "test",
        }  # fmt: skip
        self.settings |= changes
        self.add_model("llm")
        (self.port,) = free_ports(1)
        self.log = (directory / "triton.log").open("w+")
        self.start()

    def start(self):
        command = triton_command(self.directory / "repository", self.directory, self.port)
        self.process = subprocess.Popen(command.argv, env=command.env, stdout=self.log, stderr=self.log, start_new_session=True)
        wait_until(self._is_live, "Triton's HTTP port")

    def add_model(self, name, **changes):
        copy = self.directory / "repository" / name
        shutil.copytree(REPOSITORY / "llm", copy)
        config = copy / "config.pbtxt"
        config.write_text(config.read_text().replace('name: "llm"', f'name: "{name}"'))
        (copy / "1" / "model.json").write_text(json.dumps({**self.settings, **changes}))

    def load(self, name="llm"):
        return self.post(f"/v2/repository/models/{name}/load", {})

    def unload(self, name="llm"):
        return self.post(f"/v2/repository/models/{name}/unload", {})

    def begin_again(self):
        """As gateway and kubelet do when the engine's process has died: 2.51 now and then aborts when it notices."""
        try:
            assert self.unload()[0] == 200
        except OSError:
            self.process.wait(PATIENCE)
            self.start()
        assert self.load()[0] == 200

    def state(self, name="llm"):
        return next(entry for entry in self.post("/v2/repository/index", {})[1] if entry["name"] == name)

    def open(self, path, document):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request("POST", path, json.dumps({"REQUEST": json.dumps(document)}))
        return connection, connection.getresponse()

    def post(self, path, document):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request("POST", path, json.dumps(document))
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, json.loads(body) if body else None

    @property
    def token(self):
        return Path(self.settings["channel_token_file"]).read_text()

    def ask(self, op, **document):
        """One request of the channel over /generate; the RESPONSE document, or Triton's error body."""
        body = {"token": self.token, **document} if op != "generate" else document
        _, answer = self.post("/v2/models/llm/generate", {"REQUEST": json.dumps({"op": op, **body})})
        return json.loads(answer["RESPONSE"]) if "RESPONSE" in answer else answer

    def status(self):
        return self.ask("status")

    def events(self, instance, epoch=1, **more):
        return EventStream(self, op="events", token=self.token, instance=instance, epoch=epoch, **more)

    def submit(self, instance, id_, text, *, epoch=1, deadline=None, **sampling):
        """The refusal of this sequence, or the whole answer."""
        sequence = {
            "id": id_, "prompt": self.tokenizer.encode(text).ids, "deadline_seconds": deadline,
            "sampling": {"temperature": 0, "max_tokens": 16, **sampling},
        }  # fmt: skip
        answer = self.ask("submit", instance=instance, epoch=epoch, sequences=[sequence])
        return answer.get("refused", {}).get(id_, answer)

    @staticmethod
    def wait_until(condition, what, seconds=PATIENCE):
        return wait_until(condition, what, seconds)

    def stub_pids(self):
        return [int(pid) for pid in self._children(self.process.pid)]

    def stop(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.log.close()

    def _is_live(self):
        assert self.process.poll() is None, (self.directory / "triton.log").read_text()[-2000:]
        try:
            return self.post("/v2/repository/index", {})[0] == 200
        except OSError:
            return False

    @staticmethod
    def _children(pid):
        return [
            entry.name
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and _parent(entry) == pid and b"stub" in (entry / "cmdline").read_bytes()
        ]


def _parent(entry):
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


@pytest.fixture(scope="session")
def model_directory() -> Path:
    return weights.make(weights.default_destination())


@pytest.fixture(scope="session")
def server_class() -> type[Server]:
    """For modules that serve another model."""
    return Server


@pytest.fixture
def start_server(tmp_path_factory, model_directory):
    servers = []

    def start():
        servers.append(Server(tmp_path_factory.mktemp("triton"), model_directory))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory, model_directory):
    """One server with the model loaded, shared by the tests of a module."""
    server = Server(tmp_path_factory.mktemp("triton"), model_directory)
    try:
        status, answer = server.load()
        assert status == 200, answer
        yield server
    finally:
        server.stop()

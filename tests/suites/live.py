"""A live gateway in front of the real Triton and the real engine, as plain processes, for suites that run in another process."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from localmodel.cli.triton_runtime import triton_command
from ports import free_ports
from suites.environment import ROOT

PATIENCE = 600.0
"""Seconds that anything may take on a busy machine."""


class LiveTriton:
    def __init__(self, directory: Path, model: Path, **changes: Any) -> None:
        (self.port,) = free_ports(1)
        self.model = model
        self.token = directory / "token"
        config = {
            "model_path": str(model), "channel_token_file": str(self.token), "context_window": 1024, "max_batch_size": 8,
            "cpu_threads": 2, **changes,
        }  # fmt: skip
        llm = directory / "repository" / "llm"
        (llm / "1").mkdir(parents=True)
        for name in ("config.pbtxt", "1/model.py"):
            (llm / name).write_bytes((ROOT / "model_repo" / "llm" / name).read_bytes())
        (llm / "1" / "model.json").write_text(json.dumps(config))
        command = triton_command(directory / "repository", directory, self.port)
        self._log = (directory / "triton.log").open("wb")
        self._process = subprocess.Popen(command.argv, env=command.env, stdout=self._log, stderr=self._log)

    def stop(self) -> None:
        _end(self._process)
        self._log.close()


class LiveGateway:
    """Serves under every name that the suites ask for."""

    def __init__(self, directory: Path, triton: LiveTriton, names: list[str], **changes: Any) -> None:
        serving, admin = free_ports(2)
        self.url, self._admin = f"http://127.0.0.1:{serving}", f"http://127.0.0.1:{admin}"
        settings = {
            "model_name": "suites", "served_names": names, "context_window": 1024, "max_batch_size": 8,
            "model_path": str(triton.model), "serving_host": "127.0.0.1", "serving_port": serving, "admin_host": "127.0.0.1",
            "admin_port": admin, "triton_url": f"http://127.0.0.1:{triton.port}", "channel_token_file": str(triton.token),
            "endpoint_removal_seconds": 0.1, "step_timeout_seconds": PATIENCE, "concurrency": {"queue": 300},
            "timeouts": {"queue_seconds": PATIENCE, "first_token_seconds": PATIENCE, "idle_seconds": PATIENCE}, **changes,
        }  # fmt: skip
        file = directory / f"gateway-{serving}.json"
        file.write_text(json.dumps(settings))
        self.log = directory / f"gateway-{serving}.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "localmodel.gateway", "--settings", str(file)],
                env={**os.environ, "PYTHONPATH": str(ROOT / "operator"), "POD_NAME": "suites"}, stdout=log, stderr=log,
            )  # fmt: skip
        wait_until(self._ready, f"the gateway to be ready\n{self.log}")

    def _ready(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()[-3000:]
        return _status(f"{self._admin}/readyz") == 200

    def stop(self) -> None:
        _end(self._process)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.1)


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

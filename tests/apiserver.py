"""One real API server with etcd and nothing of ours in it, for the tests of chart and cluster. No node, no controller."""

import json
import os
import selectors
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
BINARIES = Path(os.environ.get("LOCALMODEL_CACHE", Path.home() / ".cache" / "localmodel")) / "bin" / "current"
START_SECONDS = 180


def find_tool(name: str) -> str:
    """Ours, built at its pinned version, before one of the machine. A missing one fails with the command that makes it."""
    built = BINARIES / name
    found = str(built) if built.exists() else shutil.which(name)
    return found or pytest.fail(f"{name} is missing: run `make cluster-binaries`")


@dataclass(frozen=True)
class ApiServer:
    kubeconfig: Path

    def run(self, *arguments: str, stdin: str | dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
        """kubectl's result, whatever its exit status. A dict is sent as JSON."""
        text = json.dumps(stdin) if isinstance(stdin, dict) else stdin
        command = [find_tool("kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments]
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=180)

    def kubectl(self, *arguments: str, stdin: str | dict[str, Any] | None = None) -> str:
        """kubectl's standard output. Its failure fails the test, with what it said."""
        result = self.run(*arguments, stdin=stdin)
        assert result.returncode == 0, f"kubectl {' '.join(arguments)}: {result.stderr}"
        return result.stdout

    def get(self, *arguments: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return document


@contextmanager
def start_apiserver(folder: Path) -> Iterator[ApiServer]:
    for name in ("etcd", "kube-apiserver", "kubectl"):
        find_tool(name)
    command = [sys.executable, str(ROOT / "hack" / "cluster" / "main.py"), "apiserver", "--dir", str(folder)]
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=output, text=True)
        try:
            yield ApiServer(_wait_until_ready(process, folder))
        finally:
            process.terminate()
            process.wait(timeout=60)


def _wait_until_ready(process: subprocess.Popen[str], folder: Path) -> Path:
    assert process.stdout
    selector = selectors.DefaultSelector()
    selector.register(process.stdout, selectors.EVENT_READ)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and selector.select(deadline - time.monotonic()):
        line = process.stdout.readline()
        if line.startswith("KUBECONFIG="):
            return Path(line.strip().removeprefix("KUBECONFIG="))
        if not line:
            break
    pytest.fail(f"no API server within {START_SECONDS} s; {(folder / 'output.txt').read_text()} logs are in {folder}")

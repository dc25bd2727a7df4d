"""One real API server with etcd for all tests of this folder, with our CRD in it. No node, no controller: nothing runs here."""

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BINARIES = Path(os.environ.get("LOCALMODEL_CACHE", Path.home() / ".cache" / "localmodel")) / "bin" / "current"
START_SECONDS = 60


@dataclass(frozen=True)
class ApiServer:
    kubeconfig: Path

    def run(self, *args: str, input: str | dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
        """kubectl's result, whatever its exit status. A dict is sent as JSON."""
        text = json.dumps(input) if isinstance(input, dict) else input
        command = [str(BINARIES / "kubectl"), f"--kubeconfig={self.kubeconfig}", *args]
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)

    def kubectl(self, *args: str, input: str | dict[str, Any] | None = None) -> str:
        """kubectl's standard output. Its failure fails the test, with what it said."""
        result = self.run(*args, input=input)
        assert result.returncode == 0, f"kubectl {' '.join(args)}: {result.stderr}"
        return result.stdout

    def get(self, *args: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.kubectl("get", *args, "-o", "json"))
        return document


@pytest.fixture(scope="session")
def bare_apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server without anything of ours. Most tests want `apiserver`."""
    missing = [name for name in ("kubectl", "kube-apiserver", "etcd") if not (BINARIES / name).exists()]
    if missing:
        pytest.fail(f"{', '.join(missing)} not found in {BINARIES}: run `make cluster-binaries`")
    folder = tmp_path_factory.mktemp("apiserver")
    command = [sys.executable, str(ROOT / "hack" / "cluster" / "main.py"), "apiserver", "--dir", str(folder)]
    with (folder / "output.txt").open("w+") as output:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=output, text=True)
        try:
            yield ApiServer(_wait_until_ready(process, folder))
        finally:
            process.terminate()
            process.wait(timeout=20)


@pytest.fixture(scope="session")
def apiserver(bare_apiserver: ApiServer) -> ApiServer:
    """With the CRD established and a namespace `llm`."""
    bare_apiserver.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    bare_apiserver.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd/localmodels.localmodel.dev")
    bare_apiserver.kubectl("create", "namespace", "llm")
    return bare_apiserver


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

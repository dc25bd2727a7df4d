"""Real helm, and one real API server without nodes: what helm renders must be accepted there, not just look right.

Nothing is skipped: a missing tool fails with the command that makes it.
"""

import json
import os
import selectors
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "localmodel-operator"
CACHE = Path(os.environ.get("LOCALMODEL_CACHE", Path.home() / ".cache" / "localmodel"))
RELEASE, NAMESPACE = "localmodel", "localmodel-system"
START_SECONDS = 60

Document = dict[str, Any]


def find_tool(name: str) -> str:
    """Ours, built at its pinned version, before one of the machine."""
    built = CACHE / "bin" / "current" / name
    found = str(built) if built.exists() else shutil.which(name)
    return found or pytest.fail(f"{name} is missing: run `python3 hack/cluster/main.py build --only helm kubernetes`")


@dataclass(frozen=True)
class Helm:
    """helm without a cluster, or with the one of `kubeconfig`."""

    kubeconfig: Path | None = None

    def run(self, *arguments: str, values: Document | None = None) -> subprocess.CompletedProcess[str]:
        """helm's result, whatever its exit status. `values` go in by a file, as a user's do."""
        given = ["--values", "-"] if values is not None else []
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig or "/dev/null")}
        return subprocess.run(
            [find_tool("helm"), *arguments, *given],
            input=json.dumps(values) if values is not None else None,
            capture_output=True,
            text=True,
            timeout=60,
            env=environment,
        )

    def template(self, values: Document | None = None, *arguments: str) -> list[Document]:
        """All rendered documents, hooks too."""
        command = ("template", RELEASE, str(CHART), "-n", NAMESPACE, *arguments)
        result = self.run(*command, values=values or {})
        assert result.returncode == 0, result.stderr
        return [document for document in yaml.load_all(result.stdout, Loader=yaml.CSafeLoader) if document]


@dataclass(frozen=True)
class ApiServer:
    kubeconfig: Path

    def run(self, *arguments: str, stdin: Document | None = None) -> subprocess.CompletedProcess[str]:
        command = [find_tool("kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments]
        text = json.dumps(stdin) if stdin is not None else None
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)

    def kubectl(self, *arguments: str, stdin: Document | None = None) -> str:
        result = self.run(*arguments, stdin=stdin)
        assert result.returncode == 0, f"kubectl {' '.join(arguments)}: {result.stderr}"
        return result.stdout

    def get(self, *arguments: str) -> Document:
        document: Document = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return document


def pick(documents: list[Document], kind: str, name: str = "localmodel-operator") -> Document:
    """The one document of a kind and name."""
    (found,) = (each for each in documents if each["kind"] == kind and each["metadata"]["name"] == name)
    return found


@pytest.fixture(scope="session")
def helm() -> Helm:
    return Helm()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server with nothing of ours in it."""
    for name in ("etcd", "kube-apiserver", "kubectl"):
        find_tool(name)
    folder = tmp_path_factory.mktemp("apiserver")
    command = [sys.executable, str(ROOT / "hack" / "cluster" / "main.py"), "apiserver", "--dir", str(folder)]
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=output, text=True)
        try:
            yield ApiServer(Path(_read_kubeconfig(process, folder)))
        finally:
            process.terminate()
            process.wait(timeout=20)


@pytest.fixture(scope="session")
def namespaces(server: ApiServer) -> None:
    """The operator's and a model's, both Pod Security restricted, with the account that Kubernetes itself would make."""
    for namespace in (NAMESPACE, "llm"):
        metadata = {"name": namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
        server.kubectl("create", "-f", "-", stdin={"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        server.kubectl("create", "serviceaccount", "default", "-n", namespace)


def _read_kubeconfig(process: subprocess.Popen[str], folder: Path) -> str:
    assert process.stdout
    selector = selectors.DefaultSelector()
    selector.register(process.stdout, selectors.EVENT_READ)
    while selector.select(START_SECONDS) and (line := process.stdout.readline()):
        if line.startswith("KUBECONFIG="):
            return line.strip().removeprefix("KUBECONFIG=")
    pytest.fail(f"no API server: {(folder / 'output.txt').read_text()} logs are in {folder}")

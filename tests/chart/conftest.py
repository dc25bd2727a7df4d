"""Real helm, and one real API server without nodes: what helm renders must be accepted there, not just look right.

Nothing is skipped: a missing tool fails with the command that makes it.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from apiserver import ROOT, ApiServer, find_tool, start_apiserver

CHART = ROOT / "charts" / "localmodel-operator"
RELEASE, NAMESPACE = "localmodel", "localmodel-system"

Document = dict[str, Any]


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
            timeout=180,
            env=environment,
        )

    def template(self, values: Document | None = None, *arguments: str) -> list[Document]:
        """All rendered documents, hooks too."""
        command = ("template", RELEASE, str(CHART), "-n", NAMESPACE, *arguments)
        result = self.run(*command, values=values or {})
        assert result.returncode == 0, result.stderr
        return [document for document in yaml.load_all(result.stdout, Loader=yaml.CSafeLoader) if document]


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
    with start_apiserver(tmp_path_factory.mktemp("apiserver")) as server:
        yield server


@pytest.fixture(scope="session")
def namespaces(server: ApiServer) -> None:
    """The operator's and a model's, both Pod Security restricted, with the account that Kubernetes itself would make."""
    for namespace in (NAMESPACE, "llm"):
        metadata = {"name": namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
        server.kubectl("create", "-f", "-", stdin={"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        server.kubectl("create", "serviceaccount", "default", "-n", namespace)

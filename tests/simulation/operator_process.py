"""The real operator as a process, under a user who may do exactly what core/permissions.py lists. For a real API server."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cluster.certificates import sign
from cluster.kubeconfig import write_kubeconfig
from localmodel.core.permissions import MODEL_PERMISSIONS, OPERATOR_PERMISSIONS, Permission
from ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
USER = "localmodel-operator-under-test"
OPERATOR_NAMESPACE = "default"
LEASE = "localmodel-operator"


def write_operator_kubeconfig(admin_kubeconfig: Path, folder: Path) -> Path:
    """The user is of the group of service accounts, so that the audit log has its reads as well."""
    pki = admin_kubeconfig.parent / "pki"
    sign(pki, "operator", USER, "system:serviceaccounts")
    server = json.loads(admin_kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    path = folder / "operator.kubeconfig"
    write_kubeconfig(path, server, pki, "operator")
    return path


def build_rbac() -> dict[str, Any]:
    """A ClusterRole and a Role of exactly the table, bound to the user."""
    subjects = [{"kind": "User", "name": USER, "apiGroup": "rbac.authorization.k8s.io"}]

    def pair(kind: str, name: str, permissions: Iterable[Permission], metadata: dict[str, Any]) -> list[dict[str, Any]]:
        rules = [{"apiGroups": [p.api_group], "resources": [p.resource], "verbs": list(p.verbs)} for p in permissions]
        api = "rbac.authorization.k8s.io/v1"
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
        return [
            {"apiVersion": api, "kind": kind, "metadata": {"name": name, **metadata}, "rules": rules},
            {
                "apiVersion": api,
                "kind": f"{kind}Binding",
                "metadata": {"name": name, **metadata},
                "roleRef": reference,
                "subjects": subjects,
            },
        ]

    items = pair("ClusterRole", USER, MODEL_PERMISSIONS, {})
    items += pair("Role", USER, OPERATOR_PERMISSIONS, {"namespace": OPERATOR_NAMESPACE})
    return {"apiVersion": "v1", "kind": "List", "items": items}


@dataclass
class OperatorProcess:
    kubeconfig: Path
    folder: Path
    identity: str
    settings: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    metrics_port: int = 0

    def start(self, **changes: Any) -> "OperatorProcess":
        """Returns once it holds the lease or says that it does not."""
        self.metrics_port, probe_port = free_ports(2)
        document = {
            "images": {"triton": "localmodel/triton:test", "gateway": "localmodel/gateway:test"},
            "namespace": OPERATOR_NAMESPACE,
            "identity": self.identity,
            "server": {
                "metricsHost": "127.0.0.1",
                "metricsPort": self.metrics_port,
                "probeHost": "127.0.0.1",
                "probePort": probe_port,
            },
            "prober": {"unsettledSeconds": 0.3, "settledSeconds": 1, "timeoutSeconds": 1},
            **self.settings,
            **changes,
        }
        path = self.folder / f"{self.identity}.yaml"
        path.write_text(yaml.safe_dump(document))
        command = [sys.executable, "-m", "localmodel.controller", "--settings", str(path)]
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PYTHONPATH": str(ROOT / "operator")}
        with (self.folder / f"{self.identity}.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self.folder)
        self.wait_until(lambda: self.metric("localmodel_operator_leader") is not None, 90)
        return self

    def wait_for_lead(self, seconds: float = 60) -> float:
        began = time.monotonic()
        self.wait_until(lambda: self.metric("localmodel_operator_leader") == 1, seconds)
        return time.monotonic() - began

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(timeout=60)

    def log(self) -> str:
        return (self.folder / f"{self.identity}.log").read_text()

    def own_exceptions(self) -> list[str]:
        """Log lines of our own loggers with a traceback; kopf's at its end (closing a watch) are not ours."""
        lines = [line for line in self.log().splitlines() if '"logger": "kopf' not in line and '"logger": "asyncio"' not in line]
        return [line for line in lines if "Traceback" in line]

    def metric(self, name: str) -> float | None:
        """Sum over the labels; None if the operator does not answer or has no such metric."""
        try:
            text = urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10).read().decode()
        except OSError:
            return None
        values = [float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name]
        return sum(values) if values else None

    def wait_until(self, check: Any, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not check():
            assert self.process and self.process.poll() is None, f"the operator ended:\n{self.log()[-3000:]}"
            assert time.monotonic() < deadline, f"not so within {seconds} s:\n{self.log()[-3000:]}"
            time.sleep(0.1)

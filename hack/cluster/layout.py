"""Where everything lies and which names and addresses the cluster uses.

One place, so that tests, docs and code can't disagree. It only computes paths: it must never create,
read or delete anything.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parent
VERSIONS_FILE = SOURCE.parent / "versions.env"

CLUSTER_DOMAIN = "cluster.local"
POD_RANGE = "10.97.0.0/16"
SERVICE_RANGE = "10.98.0.0/16"
KUBERNETES_SERVICE_IP = "10.98.0.1"
DNS_SERVICE_IP = "10.98.0.10"

HOST_LINK = "lm-host"
HOST_IP = "10.96.0.1"
CONTROL_NETNS = "localmodel-control"
CONTROL_IP = "10.96.0.2"
PREFIX_LENGTH = 24

API_PORT = 6443
DNS_PORT = 1053
REGISTRY_PORT = 5005
REGISTRY = f"127.0.0.1:{REGISTRY_PORT}"
CGROUP = "localmodel"


@dataclass(frozen=True)
class Node:
    name: str
    number: int

    @property
    def ip(self) -> str:
        return f"10.96.0.{10 + self.number}"

    @property
    def pod_range(self) -> str:
        return f"10.97.{self.number}.0/24"

    @property
    def netns(self) -> str:
        return f"localmodel-{self.name}"

    @property
    def cgroup(self) -> str:
        return f"{CGROUP}/{self.name}"


NODES = (Node("node-1", 1), Node("node-2", 2))


@dataclass(frozen=True)
class Layout:
    """Every path below the cache and the state folder."""

    cache: Path
    state: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Layout:
        default = Path(environment.get("HOME") or Path.home()) / ".cache" / "localmodel"
        cache = Path(environment.get("LOCALMODEL_CACHE") or default).absolute()
        return cls(cache, Path(environment.get("LOCALMODEL_CLUSTER") or cache / "cluster").absolute())

    @property
    def bin(self) -> Path:
        return self.cache / "bin"

    @property
    def current(self) -> Path:
        return self.bin / "current"

    @property
    def registry_data(self) -> Path:
        return self.cache / "registry"

    @property
    def lock(self) -> Path:
        return self.cache / "cluster.lock"

    @property
    def record(self) -> Path:
        return self.state / "state.json"

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        return self.state / "audit.log"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def config(self) -> Path:
        return self.state / "config"

    def node(self, node: Node) -> Path:
        return self.state / node.name

    def containerd_socket(self, node: Node) -> Path:
        return self.node(node) / "containerd.sock"

    def tool(self, name: str) -> str:
        return str(self.current / name)

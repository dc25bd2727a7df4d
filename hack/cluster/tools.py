"""What is built from Go modules: one entry per tool, and the key its binaries are cached under.

Pure: reads the pinned versions and the recipes, builds nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cluster.layout import SOURCE, VERSIONS_FILE

KUBERNETES_COMMANDS = (
    "kubectl",
    "kubelet",
    "kube-proxy",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
)


@dataclass(frozen=True)
class Tool:
    """`packages` are installed as they are at the pinned version; without them, go/<name> holds a module of ours.

    `stamps` are linker assignments, with {version}, {major} and {minor} filled in.
    """

    name: str
    packages: tuple[str, ...] = ()
    tags: str = ""
    cgo: bool = False
    stamps: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    needed_by_up: bool = True

    @property
    def version_key(self) -> str:
        return f"{self.name.upper()}_VERSION"

    @property
    def binaries(self) -> tuple[str, ...]:
        return tuple(package.rsplit("/", 1)[-1] for package in map(_without_major, self.packages)) or (self.name,)

    @property
    def source(self) -> Path:
        return SOURCE / "go" / self.name


def _without_major(package: str) -> str:
    head, _, last = package.rpartition("/")
    return head if last[:1] == "v" and last[1:].isdigit() else package


TOOLS = (
    Tool("etcd"),
    Tool(
        "kubernetes",
        stamps=tuple(
            f"{package}.{assignment}"
            for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
            for assignment in (
                "gitVersion=v{version}",
                "gitMajor={major}",
                "gitMinor={minor}",
                "gitTreeState=clean",
            )
        ),
        aliases=KUBERNETES_COMMANDS,
    ),
    Tool(
        "containerd",
        packages=tuple(
            f"github.com/containerd/containerd/v2/cmd/{command}" for command in ("containerd", "containerd-shim-runc-v2", "ctr")
        ),
        stamps=("github.com/containerd/containerd/v2/version.Version=v{version}",),
    ),
    Tool("runc", packages=("github.com/opencontainers/runc",), tags="seccomp", cgo=True),
    Tool("coredns"),
    Tool("registry"),
    Tool("pause"),
    Tool(
        "helm",
        packages=("helm.sh/helm/v4/cmd/helm",),
        stamps=("helm.sh/helm/v4/internal/version.version=v{version}",),
        needed_by_up=False,
    ),
    Tool("kubeconform", packages=("github.com/yannh/kubeconform/cmd/kubeconform",), needed_by_up=False),
)


def parse_versions(text: str) -> dict[str, str]:
    """KEY=value lines; blank lines and lines that start with # say nothing."""
    versions = {}
    for line in map(str.strip, text.splitlines()):
        if not line or line.startswith("#"):
            continue
        key, separator, value = line.partition("=")
        if not separator or not value:
            raise ValueError(f"not a KEY=value line: {line!r}")
        versions[key] = value
    return versions


def read_versions() -> dict[str, str]:
    return parse_versions(VERSIONS_FILE.read_text())


def linker_flags(tool: Tool, version: str) -> str:
    """-s -w, and the version stamped where the tool's own release build stamps it."""
    major, minor, *_ = version.split(".")
    stamps = (stamp.format(version=version, major=major, minor=minor) for stamp in tool.stamps)
    return " ".join(["-s", "-w", *(f"-X {stamp}" for stamp in stamps)])


def cache_key(tool: Tool, versions: dict[str, str]) -> str:
    """<name>-<version>-<recipe>: changes when the version, the flags or our own module's source do, and only then."""
    version = versions[tool.version_key]
    digest = hashlib.sha256()
    digest.update(repr((tool.packages, tool.tags, tool.cgo, linker_flags(tool, version), tool.aliases)).encode())
    if not tool.packages:
        for path in sorted(tool.source.iterdir()):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return f"{tool.name}-{version}-{digest.hexdigest()[:8]}"

"""Puts the operator and a model on a cluster with nothing but kubectl and helm, as a user would. For the demo and the e2e tests.

It must not talk to the API server by other means, and never touches a kubectl context that it was not given.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("LOCALMODEL_CACHE", Path.home() / ".cache" / "localmodel"))
STATE = Path(os.environ.get("LOCALMODEL_CLUSTER", CACHE / "cluster"))
LOCAL_REGISTRY = "127.0.0.1:5005"
SYSTEM_NAMESPACE = "localmodel-system"
RELEASE = "localmodel"
CHART = ROOT / "charts" / "localmodel-operator"


class DeployError(Exception):
    """Something a person has to know; the message says what to do. `status` is the exit status of what failed."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Target:
    """A cluster and the registry it pulls from. `context` empty: the local cluster, by its own kubeconfig."""

    context: str = ""
    registry: str = LOCAL_REGISTRY
    images: dict[str, str] = field(default_factory=dict)

    @property
    def local(self) -> bool:
        return not self.context

    def _command(self, tool: str) -> list[str]:
        built = CACHE / "bin" / "current" / tool
        found = str(built) if built.exists() else shutil.which(tool)
        if not found:
            raise DeployError(f"{tool} is missing: run `make cluster-binaries`, or install it")
        flag = "--context" if tool == "kubectl" else "--kube-context"
        return [found, flag, self.context] if self.context else [found, "--kubeconfig", str(STATE / "kubeconfig")]

    def run(self, tool: str, *arguments: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One kubectl or helm command. Raises DeployError with what the tool said, if `check`."""
        command = [*self._command(tool), *arguments]
        result = subprocess.run(command, input=stdin, capture_output=True, text=True)
        if check and result.returncode:
            raise DeployError(f"{tool} {' '.join(arguments)}: {result.stderr.strip() or result.stdout.strip()}")
        return result

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        return self.run("kubectl", *arguments, stdin=stdin, check=check).stdout

    def get(self, *arguments: str) -> dict[str, Any]:
        """The object as JSON; {} if there is none."""
        text = self.kubectl("get", *arguments, "--ignore-not-found", "-o", "json")
        return json.loads(text) if text.strip() else {}

    def apply(self, *documents: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}))

    def popen(self, tool: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen([*self._command(tool), *arguments], text=True, **options)


def push_images(registry: str) -> dict[str, str]:
    """Builds and pushes what the registry lacks. Image references by component, for the current tree."""
    command = [sys.executable, "hack/images/main.py", "push", "--registry", registry]
    result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if result.returncode:
        raise DeployError("the images could not be built and pushed: what failed is named above", result.returncode)
    return json.loads(result.stdout.splitlines()[-1])


def install_operator(target: Target, *settings: str) -> None:
    """helm upgrade --install, waiting until the operator is ready."""
    repository, _, tag = target.images["operator"].rpartition(":")
    values = {
        "image.repository": repository,
        "image.tag": tag,
        "config.images.triton": target.images["triton"],
        "config.images.gateway": target.images["gateway"],
    }
    flags = [f"--set-string={key}={value}" for key, value in values.items()]
    target.run(
        "helm", "upgrade", "--install", RELEASE, str(CHART), "-n", SYSTEM_NAMESPACE, "--create-namespace",
        *flags, *settings, "--wait", "--timeout", "5m",
    )  # fmt: skip


def create_namespace(target: Target, namespace: str) -> None:
    """A namespace that enforces Pod Security restricted, as a careful platform team's do."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    target.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}})


def create_claim(target: Target, namespace: str, directory: Path, *, claim: str = "models") -> None:
    """A claim with model directories in it: on the local cluster a volume over `directory`, elsewhere a copy of it."""
    size, mode = "10Gi", "ReadOnlyMany" if target.local else "ReadWriteOnce"
    spec: dict[str, Any] = {"accessModes": [mode], "resources": {"requests": {"storage": size}}}
    if target.local:
        name = f"{namespace}-{claim}"
        volume = {
            "capacity": {"storage": size},
            "accessModes": [mode],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "hostPath": {"path": str(directory), "type": "Directory"},
            "claimRef": {"namespace": namespace, "name": claim},
        }
        if target.get("pv", name).get("status", {}).get("phase") in ("Released", "Failed"):
            target.kubectl("delete", "pv", name)
        target.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": volume})
        spec |= {"storageClassName": "", "volumeName": name}
    metadata = {"name": claim, "namespace": namespace}
    target.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})
    if not target.local:
        _copy_models(target, namespace, directory, claim)


def _copy_models(target: Target, namespace: str, directory: Path, claim: str) -> None:
    """Streams `directory` into the claim through a pod that runs the operator's image."""
    loader = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "model-loader", "namespace": namespace},
        "spec": {
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": 65532, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "loader",
                "image": target.images["operator"],
                "command": ["python3", "-c", "import time; time.sleep(3600)"],
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": "models", "mountPath": "/models"}],
            }],
            "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": claim}}],
        },
    }  # fmt: skip
    target.apply(loader)
    target.kubectl("wait", "-n", namespace, "--for=condition=Ready", "pod/model-loader", "--timeout=300s")
    archive = subprocess.Popen(["tar", "-C", str(directory), "-cf", "-", "."], stdout=subprocess.PIPE)
    unpack = "import sys, tarfile; tarfile.open(fileobj=sys.stdin.buffer, mode='r|').extractall('/models', filter='data')"
    copy = target.popen(
        "kubectl", "exec", "-i", "-n", namespace, "model-loader", "--", "python3", "-c", unpack, stdin=archive.stdout
    )  # fmt: skip
    if copy.wait() or archive.wait():
        raise DeployError(f"copying {directory} into the claim {namespace}/{claim} failed")
    target.kubectl("delete", "pod", "-n", namespace, "model-loader", "--grace-period=0", "--force")


def watch_model(target: Target, namespace: str, name: str, *, seconds: int) -> Iterator[tuple[bool, str]]:
    """Yields (ready, sentence) whenever what status says of Ready changes, for at most `seconds`."""
    flags = ("-n", namespace, "--watch", "-o", "json", f"--request-timeout={seconds}s")
    said = ""
    with target.popen("kubectl", "get", "localmodel", name, *flags, stdout=subprocess.PIPE) as process:
        try:
            decoder, buffer = json.JSONDecoder(), ""
            for line in process.stdout or ():
                buffer += line
                if line.rstrip("\n") != "}":
                    continue
                body, buffer = decoder.decode(buffer), ""
                ready = next((c for c in body.get("status", {}).get("conditions", ()) if c["type"] == "Ready"), None)
                sentence = f"{ready['reason']}: {ready['message']}" if ready else "waiting for the operator"
                if sentence != said:
                    said = sentence
                    yield bool(ready) and ready["status"] == "True", sentence
        finally:
            process.terminate()

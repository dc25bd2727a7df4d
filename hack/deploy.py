"""Puts the operator and a model on a cluster with nothing but kubectl and helm, as a user would. For the demo and the e2e tests.

It must not talk to the API server by other means, and never touches a kubectl context that it was not given.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
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
CLAIM_SIZE = "10Gi"


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
        """For a cluster of the user's, the user's own tool comes first: it fits that cluster's version and sign-in."""
        built = str(CACHE / "bin" / "current" / tool)
        found = (shutil.which(built) or shutil.which(tool)) if self.local else (shutil.which(tool) or shutil.which(built))
        if not found:
            raise DeployError(f"{tool} is missing: run `make cluster-binaries`, or install it")
        flag = "--context" if tool == "kubectl" else "--kube-context"
        return [found, flag, self.context] if self.context else [found, "--kubeconfig", str(STATE / "kubeconfig")]

    def _environment(self) -> dict[str, str]:
        """kubectl keeps what it learns of the local cluster beside it, and not in ~/.kube."""
        return os.environ | ({"KUBECACHEDIR": str(STATE / "kubectl-cache")} if self.local else {})

    def run(self, tool: str, *arguments: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One kubectl or helm command. Raises DeployError with what the tool said, if `check`."""
        command = [*self._command(tool), *arguments]
        result = subprocess.run(command, input=stdin, capture_output=True, text=True, env=self._environment())
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
        return subprocess.Popen([*self._command(tool), *arguments], text=True, env=self._environment(), **options)


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
    """A namespace that enforces Pod Security restricted, as a careful platform team's do. One that exists is left as it is."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    if not target.get("namespace", namespace):
        target.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}})


def build_claim(namespace: str, claim: str, mode: str, **spec: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": claim, "namespace": namespace},
        "spec": {"accessModes": [mode], "resources": {"requests": {"storage": CLAIM_SIZE}}, **spec},
    }


def create_claim(target: Target, namespace: str, directory: Path, *, claim: str = "models") -> None:
    """On the local cluster: a claim whose volume is `directory` itself. (On another, see model_copy.)"""
    name, mode = f"{namespace}-{claim}", "ReadOnlyMany"
    if target.get("pv", name).get("status", {}).get("phase") in ("Released", "Failed"):
        target.kubectl("delete", "pv", name)
    volume = {
        "capacity": {"storage": CLAIM_SIZE},
        "accessModes": [mode],
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": "",
        "hostPath": {"path": str(directory), "type": "Directory"},
        "claimRef": {"namespace": namespace, "name": claim},
    }
    target.apply(
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": volume},
        build_claim(namespace, claim, mode, storageClassName="", volumeName=name),
    )


def watch_model(target: Target, namespace: str, name: str, *, seconds: int) -> Iterator[tuple[bool, str]]:
    """Yields (ready, sentence) whenever what status says of Ready changes, for at most `seconds`."""
    deadline, said = time.monotonic() + seconds, ""
    while (left := deadline - time.monotonic()) > 1:
        flags = ("-n", namespace, "--watch", "-o", "json", f"--request-timeout={left:.0f}s")
        with target.popen("kubectl", "get", "localmodel", name, *flags, stdout=subprocess.PIPE) as process:
            try:
                for body in split_objects(process.stdout or ()):
                    ready, sentence = describe_readiness(body)
                    if sentence != said:
                        said = sentence
                        yield ready, sentence
            finally:
                process.terminate()
        time.sleep(1)


def split_objects(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The objects of `kubectl get --watch -o json`, each as soon as its last line is there."""
    text = ""
    for line in lines:
        text += line
        if line.rstrip("\n") == "}":
            yield json.loads(text)
            text = ""


def describe_readiness(body: dict[str, Any]) -> tuple[bool, str]:
    ready = next((c for c in body.get("status", {}).get("conditions", ()) if c["type"] == "Ready"), None)
    return (ready["status"] == "True", f"{ready['reason']}: {ready['message']}") if ready else (False, "waiting for the operator")

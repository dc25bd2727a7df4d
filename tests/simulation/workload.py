"""INJECTION: plays the Deployment's controller, scheduler and kubelet for one namespace, with the real pod template.

The API server is real, so its Pod Security admission judges every pod that is made here.
"""

import itertools
import json
import time
from collections.abc import Callable
from typing import Any, Protocol

from simulation.fake_gateway import FakeGateway, build_report

_NUMBERS = itertools.count(1)
PATIENCE = 60.0
"""Seconds that anything may take on a busy machine before a test gives up."""


class Kubectl(Protocol):
    def kubectl(self, *args: str, input: str | dict[str, Any] | None = None) -> str: ...
    def run(self, *args: str, input: str | dict[str, Any] | None = None) -> Any: ...


class Workload:
    def __init__(self, api: Kubectl, namespace: str) -> None:
        self.api, self.namespace = api, namespace
        self.gateways: dict[str, FakeGateway] = {}

    def get(self, *args: str) -> dict[str, Any]:
        result = self.api.run("get", "-n", self.namespace, *args, "-o", "json")
        return json.loads(result.stdout) if result.returncode == 0 else {}

    def apply(self, name: str, spec: dict[str, Any]) -> None:
        body = {"apiVersion": "localmodel.dev/v1alpha1", "kind": "LocalModel"}
        body |= {"metadata": {"name": name, "namespace": self.namespace}, "spec": spec}
        self.api.kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=test-user", "-f", "-", stdin=body)

    def claim(self, name: str = "models") -> None:
        spec = {"accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "1Gi"}}}
        body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": self.namespace}}
        self.api.kubectl("apply", "-f", "-", stdin={**body, "spec": spec})

    def make_pod(self, name: str) -> str:
        """A pod from the Deployment's template. Raises AssertionError if admission refuses it."""
        template = self.get("deployment", name)["spec"]["template"]
        pod = f"{name}-{next(_NUMBERS)}"
        metadata = {**template["metadata"], "name": pod, "namespace": self.namespace}
        self.api.kubectl(
            "create", "-f", "-", stdin={"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        )
        return pod

    def run_pod(self, name: str, state: str = "Ready", message: str = "") -> str:
        """A pod with a node, an address and a gateway that answers there."""
        pod = self.make_pod(name)
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod, "namespace": self.namespace}}
        target = {"apiVersion": "v1", "kind": "Node", "name": "node-1"}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/binding"
        self.api.kubectl("create", "--raw", path, "-f", "-", stdin={**binding, "target": target})
        self.gateways[pod] = FakeGateway(build_report(pod, state, message))
        self.set_pod(pod, ready=state == "Ready", podIP=self.gateways[pod].ip, phase="Running")
        return pod

    def set_pod(self, pod: str, *, ready: bool = False, **status: Any) -> None:
        conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
        if "podIP" in status:
            status["podIPs"] = [{"ip": status["podIP"]}]
        self._patch_status("pod", pod, {"conditions": conditions, **status})

    def set_deployment(self, name: str, replicas: int, **status: Any) -> None:
        """As its controller would: everything is of the current template."""
        generation = self.get("deployment", name)["metadata"]["generation"]
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), replicas)
        self._patch_status("deployment", name, {"observedGeneration": generation, **counts, **status})

    def delete_pod(self, pod: str) -> None:
        self.api.kubectl("delete", "pod", pod, "-n", self.namespace, "--grace-period=0", "--force")
        if gateway := self.gateways.pop(pod, None):
            gateway.close()

    def condition(self, name: str, type_: str) -> dict[str, Any]:
        """Of the present generation; {} before there is one."""
        model = self.get("localmodel", name)
        found = [c for c in model.get("status", {}).get("conditions", ()) if c["type"] == type_]
        return found[0] if found and found[0]["observedGeneration"] == model["metadata"]["generation"] else {}

    def wait(self, name: str, type_: str, status: str, reason: str = "", seconds: float = PATIENCE) -> dict[str, Any]:
        def check() -> dict[str, Any]:
            condition = self.condition(name, type_)
            right = condition.get("status") == status and (not reason or condition.get("reason") == reason)
            return condition if right else {}

        return until(check, f"{name} {type_}={status} {reason}; is {self.condition(name, type_)}", seconds)

    def close(self) -> None:
        for gateway in self.gateways.values():
            gateway.close()

    def _patch_status(self, kind: str, name: str, status: dict[str, Any]) -> None:
        patch = json.dumps({"status": status})
        self.api.kubectl("patch", kind, name, "-n", self.namespace, "--subresource=status", "--type=merge", "-p", patch)


def until(check: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, f"not so within {seconds} s: {what}"
        time.sleep(0.1)
    return found

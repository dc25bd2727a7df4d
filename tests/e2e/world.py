"""What the e2e tests see and do on any cluster: kubectl, models, OpenAI clients, the operator.

It only looks and acts; what is right is said by the tests. What only the local cluster shows is in `local`.
"""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai

import deploy
import model_copy

OPERATOR_LABEL = "app.kubernetes.io/name=localmodel-operator"
MODEL = deploy.CACHE / "models" / "smollm2-135m-instruct"
EMBEDDING_MODEL = deploy.CACHE / "models" / "minilm-l6-v2"
MODELS = deploy.CACHE / "e2e-models"
EVERYBODY = [{"ipBlock": {"cidr": "0.0.0.0/0"}}]
"""On a cluster of the user's the clients come through its API server, whose address the tests don't know."""


def until(check: Callable[[], Any], what: str, seconds: float = 120, every: float = 0.5) -> Any:
    """The first truthy answer of `check`; AssertionError naming `what` and the last answer after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds:.0f} s still not: {what}; last answer: {answer!r}")
        time.sleep(every)


class World:
    def __init__(self, target: deploy.Target, namespace: str) -> None:
        self.target = target
        self.namespace = namespace
        self.pod_ips: dict[str, str] = {}
        self._proxy: subprocess.Popen[str] | None = None
        self._proxy_url = ""

    def close(self) -> None:
        if self._proxy is not None:
            self._proxy.terminate()
            self._proxy.wait()

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        return self.target.kubectl("-n", self.namespace, *arguments, stdin=stdin, check=check)

    def get(self, *arguments: str) -> dict[str, Any]:
        return self.target.get("-n", self.namespace, *arguments)

    def items(self, *arguments: str) -> list[dict[str, Any]]:
        return self.get(*arguments).get("items", [])

    # --- models

    def manifest(self, name: str, **spec: Any) -> dict[str, Any]:
        base: dict[str, Any] = {
            "model": {"source": {"pvc": {"claimName": "models", "path": "good"}}},
            "gpu": {"count": 0},
            "contextWindow": 1024,
            "maxBatchSize": 4,
            "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"cpu": "2", "memory": "2Gi"}},
        }
        if not self.target.local:
            base["security"] = {"allowFrom": EVERYBODY}
        kind = {"apiVersion": "localmodel.dev/v1alpha1", "kind": "LocalModel"}
        return {**kind, "metadata": {"name": name, "namespace": self.namespace}, "spec": {**base, **spec}}

    def apply(self, manifest: dict[str, Any]) -> dict[str, Any]:
        self.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
        return manifest

    def patch(self, name: str, spec: dict[str, Any]) -> None:
        self.kubectl("patch", "localmodel", name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def condition(self, name: str, type_: str) -> dict[str, Any]:
        """The condition of the present generation; {} before there is one."""
        body = self.get("localmodel", name)
        generation = body.get("metadata", {}).get("generation")
        found = [c for c in body.get("status", {}).get("conditions", ()) if c["type"] == type_]
        return found[0] if found and found[0].get("observedGeneration") == generation else {}

    def wait_condition(self, name: str, type_: str, status: str, reason: str = "", seconds: float = 120) -> dict[str, Any]:
        def check() -> dict[str, Any]:
            condition = self.condition(name, type_)
            right = condition.get("status") == status and (not reason or condition.get("reason") == reason)
            return condition if right else {}

        try:
            return until(check, f"{name} {type_}={status} {reason}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.kubectl('describe', 'localmodel', name)}") from None

    def wait_ready(self, name: str, seconds: float = 240) -> dict[str, Any]:
        return self.wait_condition(name, "Ready", "True", seconds=seconds)

    def status(self, name: str) -> dict[str, Any]:
        return self.get("localmodel", name).get("status", {})

    def events(self, name: str, reason: str) -> list[dict[str, Any]]:
        """What the operator told of a model under this reason."""
        flags = ("--field-selector", f"involvedObject.kind=LocalModel,involvedObject.name={name},reason={reason}")
        return self.items("events", *flags)

    def pods(self, name: str) -> list[dict[str, Any]]:
        """Pods of a model that are not going away; their addresses are remembered for the packet record."""
        pods = [p for p in self.items("pods", "-l", f"localmodel.dev/name={name}") if "deletionTimestamp" not in p["metadata"]]
        for pod in pods:
            if ip := pod.get("status", {}).get("podIP"):
                self.pod_ips[ip] = pod["metadata"]["name"]
        return pods

    def make_claim(self, namespace: str, directory: Path) -> None:
        """A claim `models` with the models of `directory`: its own disk on the local cluster, a copy on another."""
        if self.target.local:
            deploy.create_claim(self.target, namespace, directory)
            return
        for model in sorted(directory.iterdir()):
            model_copy.copy_model(self.target, namespace, "models", model)

    def drop_volume(self, namespace: str) -> None:
        """The volume that `make_claim` made outlives its namespace; on another cluster that is the StorageClass's matter."""
        if self.target.local:
            self.target.kubectl("delete", "pv", f"{namespace}-models", "--wait=false", check=False)

    def client(self, name: str, *, key: str = "", **options: Any) -> openai.OpenAI:
        """Through the model's Service, as a client on the LAN would. No retries: a failure must show."""
        if not self.target.local:
            # The API server in between would read the key as one of its own.
            options["http_client"] = httpx.Client(
                event_hooks={"request": [lambda request: request.headers.pop("authorization", None)]}
            )
        url = f"{self.service_url(name)}/v1"
        return openai.OpenAI(base_url=url, api_key=key or "none", max_retries=0, timeout=60, **options)

    def service_url(self, name: str) -> str:
        """The Service's address, or the way to it through the API server where this machine is not on the cluster's network."""
        if self.target.local:
            return f"http://{self.get('service', name)['spec']['clusterIP']}"
        if self._proxy is None:
            self._proxy = self.target.popen("kubectl", "proxy", "--port=0", stdout=subprocess.PIPE)
            self._proxy_url = f"http://{self._proxy.stdout.readline().split()[-1]}" if self._proxy.stdout else ""
        return f"{self._proxy_url}/api/v1/namespaces/{self.namespace}/services/{name}:80/proxy"

    def ask(self, name: str, prompt: str = "Name the capital of France.", *, key: str = "", **options: Any) -> str:
        messages: Any = [{"role": "user", "content": prompt}]
        request = {"max_tokens": 24, "temperature": 0, **options}
        with self.client(name, key=key) as client:
            return client.chat.completions.create(model=name, messages=messages, **request).choices[0].message.content or ""

    def records(self, pod: str) -> list[dict[str, Any]]:
        """The request log of a pod: what the gateway wrote about requests, oldest first."""
        lines = [line for line in self.kubectl("logs", pod, "-c", "gateway").splitlines() if line.startswith("{")]
        return [record for record in map(json.loads, lines) if "outcome" in record]

    # --- the operator

    def operator_pods(self) -> list[dict[str, Any]]:
        return self.target.get("-n", deploy.SYSTEM_NAMESPACE, "pods", "-l", OPERATOR_LABEL).get("items", [])

    def operator_logs(self) -> str:
        return self.target.kubectl("logs", "-n", deploy.SYSTEM_NAMESPACE, "-l", OPERATOR_LABEL, "--tail=-1")

    def scale_operator(self, replicas: int) -> None:
        """And waits until it is so."""
        system = ("-n", deploy.SYSTEM_NAMESPACE)
        self.target.kubectl(*system, "scale", "deployment", "-l", OPERATOR_LABEL, f"--replicas={replicas}")
        if replicas:
            self.target.kubectl(*system, "rollout", "status", "deployment", "-l", OPERATOR_LABEL, "--timeout=120s")
        else:
            until(lambda: not self.operator_pods(), "the operator is gone", 90)

    def restarts(self, pod: str) -> int:
        statuses = self.get("pod", pod).get("status", {}).get("containerStatuses", ())
        return sum(s["restartCount"] for s in statuses if s["name"] == "triton")

"""What the e2e tests see and do: kubectl, the audit log, the processes of a container, the packets of pods, OpenAI clients.

It only looks and acts; what is right is said by the tests.
"""

import datetime
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai

import deploy

WRITES = ("create", "update", "patch", "delete", "deletecollection")
OPERATOR_USER = f"system:serviceaccount:{deploy.SYSTEM_NAMESPACE}:"
OPERATOR_LABEL = "app.kubernetes.io/name=localmodel-operator"
PACKET_TABLE = "localmodel_e2e"
PACKET_RULES = """
table ip localmodel_e2e {
  set flows { type ipv4_addr . ipv4_addr . inet_proto . inet_service; flags dynamic; size 65535; }
  chain watch {
    type filter hook prerouting priority -310;
    ip saddr 10.97.0.0/16 tcp flags & (syn | ack) == syn add @flows { ip saddr . ip daddr . meta l4proto . th dport }
    ip saddr 10.97.0.0/16 meta l4proto udp add @flows { ip saddr . ip daddr . meta l4proto . th dport }
  }
}
"""


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
        self.state = json.loads((deploy.STATE / "state.json").read_text())
        self.pod_ips: dict[str, str] = {}

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

    def pods(self, name: str) -> list[dict[str, Any]]:
        """Pods of a model that are not going away; their addresses are remembered for the packet record."""
        pods = [p for p in self.items("pods", "-l", f"localmodel.dev/name={name}") if "deletionTimestamp" not in p["metadata"]]
        for pod in pods:
            if ip := pod.get("status", {}).get("podIP"):
                self.pod_ips[ip] = pod["metadata"]["name"]
        return pods

    def client(self, name: str, **options: Any) -> openai.OpenAI:
        """Through the model's Service, as a client on the LAN would. No retries: a failure must show."""
        address = self.get("service", name)["spec"]["clusterIP"]
        return openai.OpenAI(base_url=f"http://{address}/v1", api_key="unused", max_retries=0, timeout=60, **options)

    def ask(self, name: str, prompt: str = "What is the capital of France?", **options: Any) -> str:
        messages: Any = [{"role": "user", "content": prompt}]
        request = {"max_tokens": 24, "temperature": 0, **options}
        with self.client(name) as client:
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

    # --- processes

    def triton_pid(self, pod: dict[str, Any]) -> int:
        """Host's process id of tritonserver in a pod: found by the container's id in its cgroup."""
        statuses = [s for s in pod["status"]["containerStatuses"] if s["name"] == "triton"]
        container = statuses[0]["containerID"].removeprefix("containerd://")
        for directory in Path("/proc").iterdir():
            if not directory.name.isdigit():
                continue
            try:
                if container in (directory / "cgroup").read_text() and "tritonserver" in (directory / "comm").read_text():
                    return int(directory.name)
            except OSError:
                continue
        raise AssertionError(f"no tritonserver in container {container}")

    def restarts(self, pod: str) -> int:
        statuses = self.get("pod", pod).get("status", {}).get("containerStatuses", ())
        return sum(s["restartCount"] for s in statuses if s["name"] == "triton")

    # --- the audit log

    def operator_writes(self, since: float) -> list[str]:
        """What the operator wrote in our namespace after `since` (seconds of the epoch): one sentence each."""
        found = []
        with (deploy.STATE / "audit.log").open() as lines:
            for line in lines:
                if OPERATOR_USER not in line or not line.endswith("\n"):
                    continue
                event = json.loads(line)
                reference = event.get("objectRef", {})
                when = datetime.datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp()
                if when <= since or event["verb"] not in WRITES or reference.get("namespace") != self.namespace:
                    continue
                where = "/".join(filter(None, (reference.get("namespace"), reference.get("name"), reference.get("subresource"))))
                found.append(f"{event['verb']} {reference.get('resource')} {where}")
        return found

    def wait_quiet(self, seconds: float = 5, limit: float = 120) -> None:
        """Until the operator has written nothing for a while: what earlier tests set off has come to rest."""
        until(lambda: not self.operator_writes(time.time() - seconds), f"{seconds:.0f} s without a write", limit)

    # --- packets

    def _nft(self, node: str, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        command = ["nsenter", f"--net=/run/netns/localmodel-{node}", "nft", *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=check).stdout

    def start_packet_record(self) -> None:
        for node in ("node-1", "node-2"):
            self._nft(node, "delete", "table", "ip", PACKET_TABLE, check=False)
            self._nft(node, "-f", "-", stdin=PACKET_RULES)

    def stop_packet_record(self) -> None:
        for node in ("node-1", "node-2"):
            self._nft(node, "delete", "table", "ip", PACKET_TABLE, check=False)

    def flows(self) -> set[tuple[str, str, str, int]]:
        """(source, destination, protocol, port) of every first packet that a pod sent on either node."""
        found = set()
        for node in ("node-1", "node-2"):
            listing = json.loads(self._nft(node, "-j", "-n", "list", "set", "ip", PACKET_TABLE, "flows"))
            for part in listing["nftables"]:
                for element in part.get("set", {}).get("elem", ()):
                    source, destination, protocol, port = element["concat"]
                    found.add((source, destination, str(protocol), int(port)))
        return found

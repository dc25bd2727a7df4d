"""What only the local cluster shows, and what can be done to it alone: processes of a container, the API server's audit log,
packets of pods, a node whose kubelet is gone.

What is right is said by the tests; what is stopped is started again. Tests that need it take the fixture `local`, and are skipped
on a cluster of the user's.
"""

import contextlib
import datetime
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import deploy
from e2e.world import World, until

WRITES = ("create", "update", "patch", "delete", "deletecollection")
OPERATOR_USER = f"system:serviceaccount:{deploy.SYSTEM_NAMESPACE}:"
NODES = ("node-1", "node-2")
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


def is_ready(pod: dict[str, Any]) -> bool:
    return any((c["type"], c["status"]) == ("Ready", "True") for c in pod["status"].get("conditions", ()))


class LocalCluster:
    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

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

    # --- nodes

    @contextlib.contextmanager
    def without_kubelet(self, world: World, node: str) -> Iterator[None]:
        """Nothing is heard of the node meanwhile, but what runs there runs on. Afterwards all is ready that was so before."""
        before = self._pods_on(world, node, ready=True)
        self._control("stop", f"kubelet-{node}")
        try:
            yield
        finally:
            self._control("start", f"kubelet-{node}")
            world.kubectl("wait", "node", node, "--for=condition=Ready", "--timeout=120s")
            until(lambda: not before & self._pods_on(world, node, ready=False), f"pods of {node} are ready again")

    def _control(self, *arguments: str) -> None:
        command = [sys.executable, str(deploy.ROOT / "hack" / "cluster" / "main.py"), *arguments]
        subprocess.run(command, capture_output=True, text=True, check=True)

    def _pods_on(self, world: World, node: str, *, ready: bool) -> set[str]:
        """By uid, those that are going away left out."""
        found = world.target.get("pods", "-A", f"--field-selector=spec.nodeName={node}")["items"]
        staying = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
        return {pod["metadata"]["uid"] for pod in staying if is_ready(pod) == ready}

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
        for node in NODES:
            self._nft(node, "delete", "table", "ip", PACKET_TABLE, check=False)
            self._nft(node, "-f", "-", stdin=PACKET_RULES)

    def stop_packet_record(self) -> None:
        for node in NODES:
            self._nft(node, "delete", "table", "ip", PACKET_TABLE, check=False)

    def flows(self) -> set[tuple[str, str, str, int]]:
        """(source, destination, protocol, port) of every first packet that a pod sent on either node."""
        found = set()
        for node in NODES:
            listing = json.loads(self._nft(node, "-j", "-n", "list", "set", "ip", PACKET_TABLE, "flows"))
            for part in listing["nftables"]:
                for element in part.get("set", {}).get("elem", ()):
                    source, destination, protocol, port = element["concat"]
                    found.add((source, destination, str(protocol), int(port)))
        return found

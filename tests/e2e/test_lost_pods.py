"""Pods that are lost without a failure of their own: their node is not heard of any more, or ends them.

What status then promises and advises is done here as it says, and has to come true.
"""

import datetime
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import deploy
from e2e.local import NODES, LocalCluster
from e2e.world import World, until

SECONDS_TO_TELL = 30
"""From the moment at which the cluster gives a node up, which is a matter of its own settings."""
WHILE_LOST = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
KUBELET_MEASURES_DISKS = 180
"""Seconds. It does so once a minute."""


def test_lost_node_is_told_and_models_leave_it_as_advised(world: World, local: LocalCluster, chat: str, model) -> None:
    """Three models have a pod there: `chat` waits for the node, `alone` is moved by hand, `pair` by its own toleration."""
    node = world.pods(chat)[0]["spec"]["nodeName"]
    with cordoned(world, *(each for each in NODES if each != node)):
        model("alone")
        until(lambda: [pod for pod in world.pods("alone") if "nodeName" in pod["spec"]], "the pod has its node")
    model("pair", replicas=2, placement={"tolerations": [WHILE_LOST]})
    world.wait_ready("alone")
    until(lambda: world.status("pair").get("readyReplicas") == 2, "both replicas are ready", 240)
    waits, lost = (world.pods(name)[0]["metadata"]["name"] for name in (chat, "alone"))
    assert {pod["spec"]["nodeName"] for pod in world.pods("pair")} == set(NODES)
    restarts = world.restarts(waits)

    with local.without_kubelet(world, node):
        for name, pod in ((chat, waits), ("alone", lost)):
            scheduled = world.wait_condition(name, "Scheduled", "False", "NodeLost")
            ready = world.condition(name, "Ready")
            assert (ready["status"], ready["reason"]) == ("False", "NodeLost")
            assert f"node {node}, where pod {pod} runs" in ready["message"] == scheduled["message"]
            assert (moment(scheduled) - moment(given_up(world, node))).total_seconds() <= SECONDS_TO_TELL
            until(lambda name=name: not reachable(world, name), "no request goes there")
            assert_warned(world, name, "NodeLost")
        assert "`kubectl delete pod --wait=false`" in ready["message"]
        assert_warned(world, "pair", "NodeLost")
        assert "Paris" in world.ask("pair")
        world.kubectl("delete", "pod", lost, "--wait=false")
        world.wait_ready("alone")
        assert [pod["spec"]["nodeName"] != node for pod in world.pods("alone")] == [True]
        assert "Paris" in world.ask("alone")
        until(lambda: world.status("pair").get("readyReplicas") == 2, "both replicas are ready again", 240)
        assert {pod["spec"]["nodeName"] for pod in world.pods("pair")} == set(NODES) - {node}
        assert world.condition(chat, "Ready")["reason"] == "NodeLost"

    world.wait_ready(chat)
    assert world.condition(chat, "Scheduled")["status"] == "True"
    assert [pod["metadata"]["name"] for pod in world.pods(chat)] == [waits] and world.restarts(waits) == restarts
    assert "Paris" in world.ask(chat)
    until(lambda: not world.get("pod", lost), "the pod that was moved is gone", 180)


@pytest.mark.usefixtures("local")
def test_evicted_pod_is_told_until_the_next_one_answers(world: World, model) -> None:
    """By the kubelet, as it ends pods on a full disk: here the pod fills the scratch space that it is given."""
    model("evicted", resources={"limits": {"cpu": "2", "memory": "2Gi", "ephemeral-storage": "64Mi"}})
    world.wait_ready("evicted")
    old = world.pods("evicted")[0]
    name, node = old["metadata"]["name"], old["spec"]["nodeName"]
    with watched(world, "evicted") as seen:
        fill = "import os; os.posix_fallocate(os.open('/tmp/much', os.O_CREAT | os.O_WRONLY), 0, 80 << 20)"
        world.kubectl("exec", name, "-c", "gateway", "--", "python3", "-c", fill)
        until(lambda: world.get("pod", name)["status"]["phase"] == "Failed", "it is evicted", KUBELET_MEASURES_DISKS)
        until(lambda: told_ended(seen), "PodEnded is told")
        world.wait_ready("evicted")
        told = told_ended(seen)
    said = world.get("pod", name)["status"]["message"].strip()
    assert said
    for conditions in told:
        message = conditions["Ready"]["message"]
        assert f"Pod {name} was ended on node {node}: Evicted: {said}" in message and "spec.resources" in message
        assert conditions["Scheduled"]["reason"] == "PodEnded"
    assert_warned(world, "evicted", "PodEnded")
    assert world.condition("evicted", "Scheduled")["status"] == "True" and "lastFailure" not in world.status("evicted")
    assert "Paris" in world.ask("evicted")


@contextmanager
def cordoned(world: World, *nodes: str) -> Iterator[None]:
    world.kubectl("cordon", *nodes)
    try:
        yield
    finally:
        world.kubectl("uncordon", *nodes)


def given_up(world: World, node: str) -> dict:
    """The condition by which the cluster says that it hears nothing of the node."""
    conditions = world.target.get("node", node)["status"]["conditions"]
    return next(c for c in conditions if (c["type"], c["status"]) == ("Ready", "Unknown"))


@contextmanager
def watched(world: World, name: str) -> Iterator[list[dict]]:
    """Every version of a LocalModel from now on, none left out; the list grows as long as this is open."""
    seen: list[dict] = []
    flags = ("-n", world.namespace, "--watch", "-o", "json")
    with world.target.popen("kubectl", "get", "localmodel", name, *flags, stdout=subprocess.PIPE) as process:

        def read() -> None:
            for body in deploy.split_objects(process.stdout or ()):
                seen.append(body)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            until(lambda: seen, "the watch runs")
            yield seen
        finally:
            process.terminate()
            reader.join()


def told_ended(versions: list[dict]) -> list[dict[str, dict]]:
    """The conditions by type, of those versions that are not ready because a pod was ended."""
    told = [{each["type"]: each for each in body["status"]["conditions"]} for body in versions]
    return [each for each in told if (each["Ready"]["status"], each["Ready"]["reason"]) == ("False", "PodEnded")]


def moment(condition: dict) -> datetime.datetime:
    return datetime.datetime.fromisoformat(condition["lastTransitionTime"])


def assert_warned(world: World, name: str, reason: str) -> None:
    events = until(lambda: world.events(name, reason), f"an Event {reason} of {name}")
    assert [event["type"] for event in events] == ["Warning"]


def reachable(world: World, name: str) -> list[str]:
    """Addresses that the model's Service sends requests to."""
    slices = world.items("endpointslices", "-l", f"kubernetes.io/service-name={name}")
    found = [endpoint for each in slices for endpoint in each.get("endpoints") or ()]
    return [address for endpoint in found if endpoint["conditions"].get("ready") for address in endpoint["addresses"]]

"""What users change while a model serves: settings, replicas, the operator itself."""

import json
import time
from collections.abc import Callable

import openai
import pytest

import deploy
from e2e.load import Load
from e2e.local import NODES, LocalCluster
from e2e.world import World, until


def test_changed_timeout_rolls_out_without_a_failed_request(world: World, chat: str) -> None:
    old = world.pods(chat)[0]["metadata"]["name"]
    with Load(world, chat) as load:
        until(lambda: load.answers > 2, "answers before the change")
        world.patch(chat, {"gateway": {"timeouts": {"queue": "20s"}}})
        until(lambda: old not in [p["metadata"]["name"] for p in world.items("pods")], "the old pod is gone", 240)
        after = load.answers
        until(lambda: load.answers > after + 2, "answers after the change")
    assert load.failures == []
    world.wait_condition(chat, "Progressing", "False")
    volumes = world.pods(chat)[0]["spec"]["volumes"]
    name = next(volume["configMap"]["name"] for volume in volumes if "configMap" in volume)
    settings = json.loads(world.get("configmap", name)["data"]["gateway.json"])
    assert settings["timeouts"]["queue_seconds"] == 20


@pytest.mark.usefixtures("local")
def test_two_replicas_run_on_two_nodes(world: World, chat: str) -> None:
    world.kubectl("scale", "localmodel", chat, "--replicas=2")
    until(lambda: world.status(chat).get("readyReplicas") == 2, "two ready replicas", 240)
    assert {pod["spec"]["nodeName"] for pod in world.pods(chat)} == set(NODES)
    world.kubectl("scale", "localmodel", chat, "--replicas=1")
    until(lambda: len(world.pods(chat)) == 1 and world.status(chat).get("replicas") == 1, "one replica again", 120)
    world.wait_ready(chat)


def test_paused_model_serves_on_whatever_the_spec_says_meanwhile(world: World, chat: str) -> None:
    before = world.pods(chat)[0]["metadata"]["name"]
    world.patch(chat, {"paused": True})
    world.wait_condition(chat, "Paused", "True")
    world.patch(chat, {"replicas": 0, "gateway": {"timeouts": {"idle": "29s"}}})
    world.wait_condition(chat, "Paused", "True")
    assert world.condition(chat, "Ready")["status"] == "True"
    assert "Paris" in world.ask(chat)
    world.patch(chat, {"replicas": 1, "gateway": {"timeouts": {"idle": None}}})
    world.patch(chat, {"paused": False})
    world.wait_condition(chat, "Progressing", "False", "Complete")
    assert [pod["metadata"]["name"] for pod in world.pods(chat)] == [before]


def test_hand_edits_are_set_back(world: World, chat: str) -> None:
    """The selector above all: with one key more the Service reaches nobody, and no pod shows it."""
    world.kubectl("patch", "service", chat, "--type=merge", "-p", '{"spec": {"selector": {"by": "hand"}}}')
    until(lambda: "by" not in world.get("service", chat)["spec"]["selector"], "the selector is ours again")
    world.kubectl("scale", "deployment", chat, "--replicas=0")
    until(lambda: world.get("deployment", chat)["spec"]["replicas"] == 1, "the replicas are ours again")
    world.kubectl("delete", "service", chat)
    until(lambda: world.get("service", chat), "the Service is back")
    world.wait_condition(chat, "Progressing", "False", "Complete")
    until(lambda: "Paris" in _try(lambda: world.ask(chat)), "an answer")


def _try(ask: Callable[[], str]) -> str:
    """Endpoints reach the nodes a moment after the objects."""
    try:
        return ask()
    except openai.APIConnectionError:
        return ""


def test_steady_cluster_sees_no_write(world: World, local: LocalCluster, chat: str) -> None:
    world.wait_condition(chat, "Progressing", "False")
    local.wait_quiet()
    start = time.time()
    time.sleep(30)
    assert local.operator_writes(start) == []


def test_models_serve_without_the_operator_and_its_return_writes_nothing(world: World, local: LocalCluster, chat: str) -> None:
    local.wait_quiet()
    before = world.pods(chat)[0]["metadata"]["name"]
    world.scale_operator(0)
    assert "Paris" in world.ask(chat)
    world.wait_condition(chat, "Progressing", "False")
    start = time.time()
    world.scale_operator(2)
    time.sleep(25)
    assert local.operator_writes(start) == []
    assert [pod["metadata"]["name"] for pod in world.pods(chat)] == [before]
    assert world.restarts(before) == 0


def test_helm_upgrade_restarts_no_model_and_helm_test_passes(world: World, chat: str) -> None:
    before = world.pods(chat)[0]["metadata"]["name"]
    deploy.install_operator(world.target, "--set=replicas=2", "--set=podAnnotations.test/upgraded=yes")
    world.target.run("helm", "test", deploy.RELEASE, "-n", deploy.SYSTEM_NAMESPACE)
    assert [pod["metadata"]["name"] for pod in world.pods(chat)] == [before]
    assert "Paris" in world.ask(chat)

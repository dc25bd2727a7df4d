"""Things that break. Status has to name the reason and what to do, and nobody has to clean up by hand."""

import datetime
import os
import signal
import time
from pathlib import Path

import pytest

import deploy
from e2e.local import LocalCluster
from e2e.world import World, until


def source(path: str) -> dict:
    return {"model": {"source": {"pvc": {"claimName": "models", "path": path}}}}


def test_killed_triton_is_restarted_and_status_tells(world: World, local: LocalCluster, chat: str) -> None:
    pod = world.pods(chat)[0]
    restarts = world.restarts(pod["metadata"]["name"])
    os.kill(local.triton_pid(pod), signal.SIGKILL)
    world.wait_condition(chat, "Ready", "False")
    world.wait_ready(chat)
    assert world.restarts(pod["metadata"]["name"]) == restarts + 1
    assert [p["metadata"]["name"] for p in world.pods(chat)] == [pod["metadata"]["name"]]
    assert "Paris" in world.ask(chat)


def test_frozen_triton_is_noticed_and_restarted_by_liveness(world: World, local: LocalCluster, chat: str) -> None:
    pod = world.pods(chat)[0]
    name, restarts = pod["metadata"]["name"], world.restarts(pod["metadata"]["name"])
    os.kill(local.triton_pid(pod), signal.SIGSTOP)
    world.wait_condition(chat, "Ready", "False")
    until(lambda: world.restarts(name) > restarts, "the kubelet restarts Triton", 120)
    world.wait_ready(chat)
    assert "Paris" in world.ask(chat)


@pytest.mark.parametrize(
    ("path", "reason", "said"),
    [
        ("truncated", "ModelFilesCorrupt", "model.safetensors"),
        ("nothing", "ModelFilesMissing", "config.json"),
        ("no/such/path", "ModelFilesMissing", "no/such/path"),
    ],
)
def test_broken_model_is_explained_and_mended_by_editing(world: World, model, path: str, reason: str, said: str) -> None:
    name = f"broken-{reason.lower()[-7:]}-{len(path)}"
    model(name, **source(path))
    condition = world.wait_condition(name, "ModelLoaded", "False", reason, 180)
    failure = world.status(name)["lastFailure"]
    assert said in condition["message"] and said in failure["message"]
    assert failure["reason"] == reason and failure["hint"]
    assert world.condition(name, "Ready")["status"] == "False"
    until(lambda: world.events(name, reason), f"an Event {reason}")
    world.patch(name, source("good"))
    world.wait_ready(name)
    assert "lastFailure" not in world.status(name)


def test_failure_is_told_within_five_seconds_and_then_nothing_is_written(world: World, local: LocalCluster, model) -> None:
    """From Triton's own line to our Event. The gateway goes on trying, and every try ends the same."""
    model("steady", **source("nothing"))
    world.wait_condition("steady", "ModelLoaded", "False", "ModelFilesMissing", 180)
    event = until(lambda: world.events("steady", "ModelFilesMissing"), "an Event")[0]
    failed = datetime.datetime.fromisoformat(failed_loads(world, "steady")[0].split(" ")[0][:19])
    assert (datetime.datetime.fromisoformat(event["eventTime"][:19]) - failed).total_seconds() < 5
    local.wait_quiet()
    start, tries = time.time(), len(failed_loads(world, "steady"))
    until(lambda: len(failed_loads(world, "steady")) > tries, "another try", 120)
    time.sleep(10)
    assert local.operator_writes(start) == []


def failed_loads(world: World, name: str) -> list[str]:
    """Triton's lines about them, with the kubelet's time first."""
    log = world.kubectl("logs", world.pods(name)[0]["metadata"]["name"], "-c", "triton", "--timestamps")
    return [line for line in log.splitlines() if "failed to load 'llm'" in line]


def test_missing_claim_is_named(world: World, model) -> None:
    model("no-claim", model={"source": {"pvc": {"claimName": "nowhere"}}})
    condition = world.wait_condition("no-claim", "Scheduled", "False", "VolumeClaimNotFound")
    assert "nowhere" in condition["message"]


@pytest.mark.usefixtures("local")
def test_a_volume_that_can_not_be_mounted_is_told(world: World, model) -> None:
    """As of a file server that is away: no container exists that could say anything."""
    deploy.create_claim(world.target, world.namespace, Path("/no/such/directory"), claim="away")
    try:
        model("no-mount", model={"source": {"pvc": {"claimName": "away"}}})
        pod = until(lambda: world.pods("no-mount"), "a pod")[0]["metadata"]["name"]
        condition = until(
            lambda: (found := world.condition("no-mount", "Ready")) and "its volumes" in found["message"] and found, "it is told"
        )
        assert condition["status"] == "False" and f"kubectl describe pod {pod}" in condition["message"]
        assert world.condition("no-mount", "Scheduled")["status"] == "Unknown"
    finally:
        world.kubectl("delete", "pvc", "away", "--wait=false")
        world.target.kubectl("delete", "pv", f"{world.namespace}-away", "--wait=false")


def test_missing_image_is_named(world: World, model) -> None:
    model("no-image", runtime={"image": f"{world.target.registry}/localmodel/nothing:1"})
    condition = world.wait_condition("no-image", "Ready", "False", "ImagePullFailed")
    assert "localmodel/nothing:1" in condition["message"]


def test_oversized_memory_wish_is_unschedulable_with_the_number(world: World, model) -> None:
    model("huge", resources={"requests": {"memory": "900Gi"}})
    condition = world.wait_condition("huge", "Scheduled", "False", "Unschedulable")
    assert "900Gi" in condition["message"] and "memory" in condition["message"]


def test_too_little_memory_is_named(world: World, model) -> None:
    model("small", resources={"requests": {"memory": "200Mi"}, "limits": {"memory": "300Mi"}})
    condition = world.wait_condition("small", "Ready", "False", "OutOfMemory", 180)
    assert "memory" in condition["message"]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"contextwindow": 1024}, "unknown field"),
        ({"gateway": {"timeouts": {"queue": "30 seconds"}}}, "spec.gateway.timeouts.queue"),
        ({"gpu": {"count": 1, "memory": "lots"}}, "spec.gpu.memory"),
    ],
)
def test_wrong_spec_is_refused_at_apply(world: World, spec: dict, said: str) -> None:
    with pytest.raises(deploy.DeployError, match=said):
        world.apply(world.manifest("refused", **spec))
    assert world.get("localmodel", "refused") == {}

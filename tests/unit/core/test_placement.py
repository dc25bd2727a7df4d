"""What is told of pods without a node, of nodes that went away, and of pods that others ended: the operator's own 3 a.m."""

from dataclasses import replace
from typing import Any

import pytest

from localmodel.api.constants import ANNOTATION_CONFIG_HASH, EXIT_BAD_LOG_KEY
from localmodel.api.localmodel import LocalModel
from localmodel.api.status import LocalModelStatus
from localmodel.core.hints import hint
from localmodel.core.observe import Observed, summarize_pod
from localmodel.core.plan import plan
from localmodel.core.status import derive_status
from localmodel.core.transitions import derive_events
from simulation.fake_gateway import build_report
from simulation.world import NOW, build_container, build_model, build_options, build_pod, observe_running

OPTIONS = build_options()
LATER = "2026-11-25T13:00:00Z"


def derive(model: LocalModel, observed: Observed, previous: LocalModelStatus | None = None, now: str = NOW) -> LocalModelStatus:
    return derive_status(model, plan(model, OPTIONS, observed), observed, previous or LocalModelStatus(), now)


def told(status: LocalModelStatus, type_: str) -> tuple[str, str, str]:
    return next((c.status, str(c.reason), c.message) for c in status.conditions if c.type == type_)


def build_body(conditions: dict[str, str], **status: Any) -> dict[str, Any]:
    """A pod as the API server shows it."""
    return {
        "metadata": {"name": "p0", "annotations": {ANNOTATION_CONFIG_HASH: "r1"}},
        "spec": {"nodeName": "node-1", "containers": [{"name": "triton"}]},
        "status": {"phase": "Running", "conditions": [{"type": t, "status": s} for t, s in conditions.items()], **status},
    }


@pytest.mark.parametrize(
    ("phase", "conditions", "setting_up", "lost"),
    [
        ("Pending", {"PodReadyToStartContainers": "False", "ContainersReady": "False", "Ready": "False"}, True, False),
        ("Pending", {"PodReadyToStartContainers": "True", "ContainersReady": "False", "Ready": "False"}, False, False),
        ("Pending", {}, False, False),
        ("Running", {"PodReadyToStartContainers": "True", "ContainersReady": "True", "Ready": "True"}, False, False),
        ("Running", {"PodReadyToStartContainers": "True", "ContainersReady": "False", "Ready": "False"}, False, False),
        ("Running", {"PodReadyToStartContainers": "True", "ContainersReady": "True", "Ready": "False"}, False, True),
        ("Succeeded", {"PodReadyToStartContainers": "False", "ContainersReady": "False", "Ready": "False"}, False, False),
    ],
)
def test_what_the_conditions_of_a_pod_mean(phase: str, conditions: dict[str, str], setting_up: bool, lost: bool) -> None:
    """The third from below: only the node controller sets Ready alone; a kubelet sets both."""
    pod = summarize_pod(build_body(conditions, phase=phase))
    assert (pod.node, pod.setting_up, pod.node_lost, pod.ended) == ("node-1", setting_up, lost, "")


def test_the_words_of_a_pod_that_was_ended() -> None:
    pod = summarize_pod(build_body({}, phase="Failed", reason="Evicted", message="The node was low on memory. "))
    assert pod.ended == "Evicted: The node was low on memory." and not pod.live


def test_volumes_that_do_not_come_are_told_at_once() -> None:
    """A file server that is away: the pod has its node and waits there for ever, and no container says why."""
    model = build_model()
    planned, observed = observe_running(model, OPTIONS)
    pod = build_pod("p0", planned.revision, ready=False, phase="Pending", node="node-1", setting_up=True)
    status = derive(model, replace(observed, pods=(pod,), gateways={}))
    assert told(status, "Scheduled")[:2] == ("Unknown", "Pending") == ("Unknown", told(status, "Ready")[1])
    assert "node-1" in told(status, "Ready")[2] and "`kubectl describe pod p0`" in told(status, "Ready")[2]


def test_a_claim_without_a_volume_is_no_want_of_nodes() -> None:
    model = build_model()
    planned, observed = observe_running(model, OPTIONS)
    said = "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"
    pod = build_pod("p0", planned.revision, ready=False, phase="Pending", scheduled=False, unschedulable=said)
    status = derive(model, replace(observed, pods=(pod,), gateways={}))
    assert told(status, "Scheduled")[:2] == ("False", "VolumeClaimUnbound") == told(status, "Ready")[:2]
    assert "PersistentVolumeClaim models has no volume" in told(status, "Ready")[2]
    assert status.last_failure and status.last_failure.message == said


@pytest.mark.parametrize("others", [0, 1])
def test_a_lost_node_is_named(others: int) -> None:
    model = build_model(replicas=1 + others)
    _, observed = observe_running(model, OPTIONS)
    good = derive(model, observed)
    lost = replace(observed.pods[0], ready=False, node="node-1", node_lost=True)
    status = derive(model, replace(observed, pods=(lost, *observed.pods[1:]), gateways={**observed.gateways, "p0": None}), good)
    assert told(status, "Scheduled")[:2] == ("False", "NodeLost")
    assert told(status, "Progressing")[:2] == ("False", "Blocked")
    ready, reason, message = told(status, "Ready")
    assert (ready, reason) == (("True", "Ready") if others else ("False", "NodeLost"))
    assert "node node-1, where pod p0 runs" in message and message.endswith(hint("NodeLost"))
    assert "`kubectl delete pod --wait=false`" in message, "without a kubelet, the pod stays listed: the command would hang"
    assert ("Warning", "NodeLost") in [(note.type, note.reason) for note in derive_events(good, status)]


def test_an_eviction_is_told_until_the_next_pod_answers() -> None:
    model = build_model()
    planned, observed = observe_running(model, OPTIONS)
    ended = build_pod("a", planned.revision, ready=False, phase="Failed", node="node-1", ended="Evicted: low on memory")
    new = build_pod("p0", planned.revision, ready=False)
    for pods in ((ended,), (ended, new)):
        status = derive(model, replace(observed, pods=pods, gateways={"p0": build_report("p0", "Loading")}))
        assert told(status, "Ready")[:2] == ("False", "PodEnded") == told(status, "Scheduled")[:2]
        assert "Pod a was ended on node node-1: Evicted: low on memory" in told(status, "Ready")[2]
    assert told(derive(model, replace(observed, pods=(ended, *observed.pods))), "Scheduled")[:2] == ("True", "Scheduled")
    crashed = replace(new, containers=(build_container(restarts=1),))
    later = derive(model, replace(observed, pods=(ended, crashed), gateways={"p0": build_report("p0", "Loading")}))
    assert told(later, "Ready")[1] == "Loading", "long after an eviction a crash is no eviction"
    older = replace(ended, revision="older")
    assert told(derive(model, replace(observed, pods=(older, new), gateways={})), "Ready")[1] == "Starting"


@pytest.mark.parametrize(("created", "reason"), [("2026-11-25T08:00:09Z", "PodEnded"), ("2026-11-25T11:59:00Z", "Starting")])
def test_an_eviction_explains_the_pod_that_was_made_for_it_and_none_of_later(created: str, reason: str) -> None:
    """What was evicted stays listed for weeks; a drained node or one replica more is no eviction."""
    model = build_model()
    planned, observed = observe_running(model, OPTIONS)
    times = {"Ready": "2026-11-25T08:00:00Z", "DisruptionTarget": "2026-11-25T08:00:07Z", "PodScheduled": "2026-11-24T08:00:00Z"}
    ended = summarize_pod(
        {
            "metadata": {"name": "a", "annotations": {ANNOTATION_CONFIG_HASH: planned.revision}},
            "spec": {"nodeName": "node-1"},
            "status": {
                "phase": "Failed",
                "reason": "Evicted",
                "conditions": [{"type": type_, "status": "False", "lastTransitionTime": at} for type_, at in times.items()],
            },
        }
    )
    new = build_pod("p0", planned.revision, ready=False, created=created)
    status = derive(model, replace(observed, pods=(ended, new), gateways={"p0": build_report("p0", "Starting")}))
    assert told(status, "Ready")[:2] == ("False", reason)


@pytest.mark.parametrize("at", ["before", "now"])
def test_what_the_deployments_controller_said_of_an_earlier_spec_is_not_said_of_this_one(at: str) -> None:
    model = build_model()
    _, observed = observe_running(model, OPTIONS)
    key = ("Deployment", "chat")
    conditions = [
        {"type": "ReplicaFailure", "status": "True", "message": "pods is forbidden: exceeded quota: q"},
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"},
    ]
    seen = {"conditions": conditions, "observedGeneration": 2 if at == "now" else 1}
    body = observed.children[key]
    body = {**body, "metadata": {**body["metadata"], "generation": 2}, "status": seen}
    status = derive(model, replace(observed, children={**observed.children, key: body}, pods=(), gateways={}))
    assert told(status, "Scheduled")[1] == ("QuotaExceeded" if at == "now" else "Pending")
    pending = replace(observed, children={**observed.children, key: body}, pods=(replace(observed.pods[0], ready=False),))
    assert told(derive(model, pending), "Progressing")[1] == ("DeadlineExceeded" if at == "now" else "Starting")


def test_a_ready_pod_that_the_operator_cannot_ask_is_not_called_starting() -> None:
    model = build_model()
    observed = observe_running(model, OPTIONS)[1]
    status = derive(model, replace(observed, gateways={"p0": None}), derive(model, observed))
    assert told(status, "Ready")[:2] == ("False", "GatewayUnreachable")
    assert told(status, "ModelLoaded")[:2] == ("Unknown", "GatewayUnreachable")
    assert told(status, "GatewayReady")[:2] == ("False", "GatewayUnreachable")
    for type_ in ("Ready", "ModelLoaded", "GatewayReady"):
        assert "Pod p0" in told(status, type_)[2] and told(status, type_)[2].endswith(hint("GatewayUnreachable"))
    events = derive_events(derive(model, observed), status)
    assert [(note.type, note.reason) for note in events if note.reason == "GatewayUnreachable"] == [
        ("Warning", "GatewayUnreachable")
    ]


def test_ready_does_not_speak_of_progress_while_a_roll_out_is_blocked() -> None:
    model = build_model()
    _, observed = observe_running(model, OPTIONS, "LoadFailed", "[ModelFilesMissing] no config.json")
    old = build_pod("a-old", "older")
    both = replace(observed, pods=(old, *observed.pods), gateways={**observed.gateways, "a-old": build_report("a-old")})
    status = derive(model, both)
    ready, reason, message = told(status, "Ready")
    assert (ready, reason) == ("True", "Ready")
    assert told(status, "GatewayReady")[2].startswith("0 of 1 gateways of the present revision answer requests.")
    assert message == f"1 of 1 replicas answer. ModelFilesMissing: no config.json\n{hint('ModelFilesMissing')}"


@pytest.mark.parametrize("code", [EXIT_BAD_LOG_KEY, 1])
def test_a_gateway_that_ends_again_and_again_is_told_once(code: int) -> None:
    """Between two ends it runs for a moment; it is well when it has spoken."""
    model = build_model(gateway={"logging": {"chainKeyRef": {"name": "audit"}}})
    planned, observed = observe_running(model, OPTIONS, "Starting")
    ends = build_container("gateway", waiting_reason="CrashLoopBackOff", exit_code=code, ended_message="no such file", restarts=3)
    waiting = build_pod("p0", planned.revision, ready=False, created=NOW, containers=(ends,))
    failed = derive(model, replace(observed, pods=(waiting,), gateways={}))
    running = replace(waiting, containers=(replace(ends, waiting_reason=""),))
    assert derive(model, replace(observed, pods=(running,), gateways={}), failed, LATER) == failed
    spoken = derive(model, replace(observed, pods=(running,), gateways={"p0": build_report("p0", "Starting")}), failed, LATER)
    assert told(spoken, "Progressing")[1] == "Starting"


def test_the_last_words_of_a_crash_are_not_cut_off() -> None:
    model = build_model()
    planned, observed = observe_running(model, OPTIONS, "Starting")
    log = "".join(f'  File "/code/{line}.py", line {line}, in main\n' for line in range(200)) + "OSError: [Errno 5] the reason\n"
    ends = build_container("gateway", waiting_reason="CrashLoopBackOff", exit_code=1, ended_message=log)
    status = derive(model, replace(observed, pods=(build_pod("p0", planned.revision, ready=False, containers=(ends,)),)))
    message = told(status, "Ready")[2]
    assert f"the reason\n{hint('CrashLoop')}" in message and len(message) < 800
    assert status.last_failure and status.last_failure.message.startswith('File "/code/0.py"')

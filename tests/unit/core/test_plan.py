"""What plan() asks for: complete, idempotent, restricted, and never somebody else's object."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localmodel.api import constants
from localmodel.api.localmodel import LocalModel
from localmodel.api.values import parse_quantity
from localmodel.core.drift import find_drift
from localmodel.core.observe import Observed, Pod, Rival, summarize_pod
from localmodel.core.options import Images
from localmodel.core.plan import plan
from localmodel.core.reasons import Reason
from simulation.world import CPU, apply_plan, build_model, build_options, build_pod, observe_running, settle

OPTIONS = build_options()
GPU = {"gpu": {"count": 1}}


def child(observed_or_plan: Any, kind: str, name: str = "chat") -> dict[str, Any]:
    return next(c for c in observed_or_plan.apply if c["kind"] == kind and c["metadata"]["name"].startswith(name))


def differing(planned: Any, observed: Observed) -> list[tuple[str, str | None]]:
    pairs = ((d, observed.children.get((d["kind"], d["metadata"]["name"]))) for d in planned.apply)
    return [(d["kind"], why) for d, live in pairs if (why := find_drift(d, live))]


names = st.from_regex(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True)
quantities = st.sampled_from(["1", "500m", "1.5", "3", "250m"])
sizes = st.sampled_from(["1Gi", "1000M", "1.5Gi", "512Mi", "123456789"])
specs = st.fixed_dictionaries(
    {
        "model": st.fixed_dictionaries(
            {
                "source": st.one_of(
                    st.fixed_dictionaries(
                        {"pvc": st.fixed_dictionaries({"claimName": names, "path": st.sampled_from(["", "a/b", "./x", "a//b/"])})}
                    ),
                    st.just({"hostPath": {"path": "/opt/models"}}),
                ),
                "version": st.text(
                    st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=["Cc", "Cs"]), max_size=20
                ),
            }
        ),
        "gpu": st.one_of(st.just({"count": 0}), st.builds(lambda n: {"count": n, "memory": "60%"}, st.integers(1, 8))),
        "contextWindow": st.integers(256, 1_048_576),
        "maxBatchSize": st.integers(1, 1024),
        "replicas": st.integers(0, 64),
        "resources": st.fixed_dictionaries(
            {"requests": st.fixed_dictionaries({}, optional={"cpu": quantities, "memory": sizes, "ephemeral-storage": sizes})}
        ),
        "paused": st.just(False),
    }
)


@settings(max_examples=150, deadline=None)
@given(name=names, spec=specs)
def test_any_valid_spec(name: str, spec: dict[str, Any]) -> None:
    model = build_model(name, **spec)
    planned = plan(model, OPTIONS, Observed())
    observed = apply_plan(planned, Observed())
    again = plan(model, OPTIONS, settle(observed))
    assert differing(again, observed) == [] and again.prune == () and not again.upgrade_pending
    for each in planned.apply:
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", each["metadata"]["name"]), each["kind"]
        assert each["metadata"]["ownerReferences"][0]["uid"] == "u1"
        assert all(len(value) <= 63 for value in each["metadata"]["labels"].values())
    check_restricted(child(planned, "Deployment", name)["spec"]["template"]["spec"], model)


def check_restricted(pod: dict[str, Any], model: LocalModel) -> None:
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in (*pod["initContainers"], *pod["containers"]):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False and security["capabilities"] == {"drop": ["ALL"]}
        assert security["readOnlyRootFilesystem"]
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        for resource in ("cpu", "memory", "ephemeral-storage"):
            assert 0 < parse_quantity(requests[resource]) <= parse_quantity(limits[resource])
    gpus = pod["containers"][0]["resources"]["limits"].get("nvidia.com/gpu")
    assert gpus == (str(model.spec.gpu.count) if model.spec.gpu.count else None)
    [mount] = [m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "model"]
    assert mount["readOnly"] and "subPath" not in mount


@pytest.mark.parametrize(
    ("requests", "limits", "expected"),
    [
        ({}, {}, ("1", "4")),
        ({"cpu": 6}, {}, ("6", "6")),
        ({"cpu": 2}, {}, ("2", "4")),
        ({}, {"cpu": "500m"}, ("500m", "500m")),
        ({"cpu": "0.5"}, {"cpu": 2}, ("500m", "2")),
    ],
)
def test_a_missing_limit_is_the_larger_of_default_and_request(requests: Any, limits: Any, expected: tuple[str, str]) -> None:
    planned = plan(build_model(resources={"requests": requests, "limits": limits}), OPTIONS, Observed())
    resources = child(planned, "Deployment")["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert (resources["requests"]["cpu"], resources["limits"]["cpu"]) == expected


def test_memory_is_planned_from_context_and_batch() -> None:
    small = plan(build_model(contextWindow=1000, maxBatchSize=1), OPTIONS, Observed()).sizing.planned_bytes
    large = plan(build_model(contextWindow=2000, maxBatchSize=10), OPTIONS, Observed()).sizing.planned_bytes
    assert small == (2048 + 256 + 24) * 2**20 and large - small == 19 * 24 * 2**20


def test_each_further_card_adds_the_memory_of_its_process():
    planned = [plan(build_model(gpu={"count": count}), OPTIONS, Observed()).sizing.planned_bytes for count in (1, 2, 4)]
    assert [each - planned[0] for each in planned] == [0, 4 * 2**30, 3 * 4 * 2**30]


@pytest.mark.parametrize("cards", [0, 1, 2])
def test_triton_takes_nothing_of_the_cards(cards: int) -> None:
    pod = child(plan(build_model(gpu={"count": cards}), OPTIONS, Observed()), "Deployment")["spec"]["template"]["spec"]
    triton = pod["containers"][0]
    pools = [flag for flag in triton["command"] if "memory-pool" in flag]
    assert pools == ["--pinned-memory-pool-byte-size=0", *(f"--cuda-memory-pool-byte-size={card}:0" for card in range(cards))]
    assert ({"name": "CUDA_VISIBLE_DEVICES", "value": ""} in triton["env"]) == bool(cards)


def test_the_model_path_carries_the_path_inside_the_volume() -> None:
    text = child(plan(build_model(), OPTIONS, Observed()), "ConfigMap")["data"]["model.json"]
    assert '"model_path": "/models/current/smol"' in text


@pytest.mark.parametrize(
    ("changes", "restarts"),
    [
        ({"replicas": 3}, False),
        ({"security": {"allowFrom": [{"namespaceSelector": {}}]}}, False),
        ({"maxBatchSize": 3}, True),
        ({"model": {**CPU["model"], "version": "2"}}, True),
        ({"gateway": {"logging": {"mode": "None"}}}, True),
        ({"resources": {"limits": {"cpu": 7}}}, True),
    ],
)
def test_what_restarts_pods(changes: dict[str, Any], restarts: bool) -> None:
    _, observed = observe_running(build_model(), OPTIONS)
    before = child(plan(build_model(), OPTIONS, observed), "Deployment")["spec"]["template"]
    after = child(plan(build_model(**changes), OPTIONS, observed), "Deployment")["spec"]["template"]
    assert (before != after) == restarts


def test_other_defaults_keep_the_running_revision_until_the_spec_changes() -> None:
    _, observed = observe_running(build_model(), OPTIONS)
    newer = OPTIONS.model_copy(update={"images": Images(triton="triton:2", gateway="gateway:2")})
    kept = plan(build_model(), newer, observed)
    assert kept.upgrade_pending and differing(kept, observed) == [] and "is kept" in kept.notes[0]
    changed = plan(build_model(maxBatchSize=2), newer, observed)
    assert not changed.upgrade_pending and "triton:2" in str(child(changed, "Deployment"))


def test_drift_is_repaired_from_the_record_even_with_other_defaults() -> None:
    _, observed = observe_running(build_model(), OPTIONS)
    key = ("Deployment", "chat")
    live = observed.children[key]
    containers = [{**c, "image": "evil"} for c in live["spec"]["template"]["spec"]["containers"]]
    pod = {**live["spec"]["template"]["spec"], "containers": containers}
    evil = {**live, "spec": {**live["spec"], "template": {**live["spec"]["template"], "spec": pod}}}
    newer = OPTIONS.model_copy(update={"images": Images(triton="triton:2", gateway="gateway:2")})
    planned = plan(build_model(), newer, replace(observed, children={**observed.children, key: evil}))
    assert child(planned, "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"] == "triton:1"


def test_old_revisions_stay_while_a_pod_or_the_roll_out_needs_them() -> None:
    planned, observed = observe_running(build_model(), OPTIONS)
    old = planned.revision
    changed = build_model(maxBatchSize=2)
    applied = apply_plan(plan(changed, OPTIONS, observed), observed)
    assert plan(changed, OPTIONS, applied).prune == (), "the Deployment's controller has not finished"
    assert plan(changed, OPTIONS, settle(applied)).prune == (), "a pod still uses it"
    new = plan(changed, OPTIONS, settle(applied)).revision
    done = replace(settle(applied), pods=(build_pod("p9", new),))
    assert [each.name for each in plan(changed, OPTIONS, done).prune] == [f"chat-{old}"]


def test_network_policies_can_be_switched_off_and_are_pruned() -> None:
    _, observed = observe_running(build_model(), OPTIONS)
    off = build_options(network_policy={"enabled": False})
    assert [each.kind for each in plan(build_model(), off, observed).prune] == ["NetworkPolicy"]


def test_an_admin_rule_without_peers_would_admit_everybody() -> None:
    options = build_options().model_copy(update={"operator_namespace": ""})
    ingress = child(plan(build_model(), options, Observed()), "NetworkPolicy")["spec"]["ingress"]
    assert [rule["ports"][0]["port"] for rule in ingress] == [8080] and all(rule["from"] for rule in ingress)


@pytest.mark.parametrize("kind", ["Service", "Deployment", "ServiceAccount", "NetworkPolicy", "PodDisruptionBudget"])
def test_a_foreign_object_is_left_alone(kind: str) -> None:
    foreign = {"kind": kind, "metadata": {"name": "chat", "uid": "x", "labels": {constants.LABEL_MODEL: "chat"}}}
    planned = plan(build_model(), OPTIONS, Observed(children={(kind, "chat"): foreign}))
    assert planned.refusal and planned.refusal.reason == Reason.NAME_CONFLICT and kind in planned.refusal.message
    assert planned.apply == () and planned.prune == ()


def test_what_a_deleted_namesake_left_is_waited_for() -> None:
    _, observed = observe_running(build_model(uid="old"), OPTIONS)
    planned = plan(build_model(uid="new"), OPTIONS, observed)
    assert planned.refusal and planned.refusal.reason == Reason.PREDECESSOR_TERMINATING and not planned.apply


@pytest.mark.parametrize(
    ("rival", "conflict"),
    [
        (Rival("a", "u0", "2025-01-01T00:00:00Z", ("chat",)), True),
        (Rival("a", "u0", "2027-01-01T00:00:00Z", ("chat",)), False),
        (Rival("a", "u0", "2026-01-01T00:00:00Z", ("chat",)), True),
        (Rival("a", "u2", "2026-01-01T00:00:00Z", ("chat",)), False),
        (Rival("a", "u0", "2025-01-01T00:00:00Z", ("other",)), False),
    ],
)
def test_the_older_one_keeps_a_served_name(rival: Rival, conflict: bool) -> None:
    planned = plan(build_model(), OPTIONS, Observed(rivals=(rival,)))
    assert bool(planned.refusal) == conflict
    if planned.refusal:
        assert planned.refusal.reason == Reason.SERVED_NAME_CONFLICT and " a " in planned.refusal.message


def test_paused_writes_nothing() -> None:
    planned = plan(build_model(paused=True), OPTIONS, Observed())
    assert planned.apply == () and planned.prune == ()


ALL = {"nvidia.com/gpu": "1", "cpu": "1", "memory": "9Gi", "ephemeral-storage": "1Gi"}
FULL = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
MIXED = "0/3 nodes are available: 1 Insufficient nvidia.com/gpu, 2 node(s) had untolerated taint(s)."
TAINT = {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}
ADMITTED = [
    {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
    {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
]
"""What admission gives to each pod."""


def _summarize(name: str, revision: str, requests: dict[str, str], place: dict[str, Any], **status: Any) -> Pod:
    spec = {"containers": [{"name": "triton", "resources": {"requests": requests}}], **place}
    spec["tolerations"] = [*place.get("tolerations", ()), *ADMITTED]
    metadata = {"name": name, "annotations": {constants.ANNOTATION_CONFIG_HASH: revision}}
    return summarize_pod({"metadata": metadata, "spec": spec, "status": status})


def _derive_update(freed: dict[str, str], said: str, before: dict[str, Any], placement: dict[str, Any]) -> dict[str, int]:
    """How a model's pods are replaced while the new one waits; `before` is what the old one's spec says of its place."""
    model = build_model(**GPU, placement=placement)
    revision = plan(model, OPTIONS, Observed()).revision
    template = child(plan(model, OPTIONS, Observed()), "Deployment")["spec"]["template"]["spec"]
    place = {name: template[name] for name in ("nodeSelector", "tolerations") if name in template}
    waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": said}
    requests = template["containers"][0]["resources"]["requests"]
    new = _summarize("p1", revision, requests, place, phase="Pending", conditions=[waits])
    old = _summarize("p0", "older", freed, {"nodeName": "n1", **before}, phase="Running")
    planned = plan(model, OPTIONS, Observed(pods=(old, new)))
    update: dict[str, int] = child(planned, "Deployment")["spec"]["strategy"]["rollingUpdate"]
    return update


@pytest.mark.parametrize(
    ("before", "placement"),
    [
        ({}, {}),
        ({"nodeSelector": {"disk": "ssd", "zone": "a"}}, {"nodeSelector": {"disk": "ssd"}}),
        ({"tolerations": [TAINT]}, {"tolerations": [TAINT, {"key": "more", "operator": "Exists"}]}),
        ({"tolerations": [TAINT]}, {"tolerations": [{"key": "gpu", "operator": "Exists"}]}),
        ({"tolerations": [{"key": "gpu", "value": "a"}]}, {"tolerations": [{"operator": "Exists"}]}),
    ],
)
def test_in_place_if_an_old_pod_frees_what_the_new_one_waits_for(before: dict[str, Any], placement: dict[str, Any]) -> None:
    assert _derive_update(ALL, MIXED, before, placement) == {"maxSurge": 0, "maxUnavailable": 1}


@pytest.mark.parametrize(
    ("freed", "said", "before", "placement"),
    [
        ({"nvidia.com/gpu": "0"}, FULL, {}, {}),
        (ALL, "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.", {}, {"nodeSelector": {"a": "b"}}),
        (ALL, "0/1 nodes are available: 1 node(s) were unschedulable.", {}, {}),
        (ALL, MIXED, {"nodeSelector": {"pool": "a"}}, {"nodeSelector": {"pool": "b"}}),
        (ALL, MIXED, {"tolerations": [TAINT]}, {}),
        (ALL, MIXED, {"tolerations": [TAINT]}, {"tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoExecute"}]}),
    ],
)
def test_a_pod_that_serves_is_not_ended_for_one_that_could_not_take_its_place(
    freed: dict[str, str], said: str, before: dict[str, Any], placement: dict[str, Any]
) -> None:
    """A wrong nodeSelector, a forgotten toleration, a cordoned node: the change waits, and what serves goes on."""
    assert _derive_update(freed, said, before, placement) == {"maxSurge": 1, "maxUnavailable": 0}

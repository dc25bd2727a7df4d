"""When a write is needed, and when it is not."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from localmodel.core.drift import find_drift, stamp
from localmodel.core.observe import Observed
from localmodel.core.plan import plan
from simulation.world import build_model, build_options

CHILDREN = plan(build_model(), build_options(), Observed()).apply
DEPLOYMENT = CHILDREN[-1]
Change = Callable[[dict[str, Any]], Any]


def pod(body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = body["spec"]["template"]["spec"]
    return found


HARMLESS: list[Change] = [
    lambda b: b.update(status={"replicas": 1}),
    lambda b: b["metadata"]["annotations"].update({"deployment.kubernetes.io/revision": "2"}),
    lambda b: pod(b).update(dnsPolicy="ClusterFirst", schedulerName="default-scheduler"),
    lambda b: pod(b)["containers"].append({"name": "injected", "image": "x"}),
    lambda b: pod(b)["containers"][0]["env"].append({"name": "X", "value": "y"}),
    lambda b: pod(b)["containers"][0]["env"].reverse(),
]
HARMFUL: list[Change] = [
    lambda b: b["spec"].update(replicas=9),
    lambda b: pod(b)["containers"][0].update(image="evil"),
    lambda b: pod(b)["containers"][0]["env"].pop(),
    lambda b: pod(b)["containers"][0]["command"].append("--allow-grpc=true"),
    lambda b: pod(b)["containers"][0]["volumeMounts"][0].update(readOnly=False),
    lambda b: pod(b).update(automountServiceAccountToken=True),
    lambda b: pod(b)["containers"][0]["securityContext"].pop("allowPrivilegeEscalation"),
    lambda b: b["metadata"].update(ownerReferences=[]),
    lambda b: b["metadata"]["labels"].pop("localmodel.dev/name"),
]


@pytest.mark.parametrize("change", HARMLESS)
def test_what_others_add_is_theirs(change: Change) -> None:
    live = copy.deepcopy(DEPLOYMENT)
    change(live)
    assert find_drift(DEPLOYMENT, live) is None


@pytest.mark.parametrize("change", HARMFUL)
def test_what_we_want_is_ours(change: Change) -> None:
    live = copy.deepcopy(DEPLOYMENT)
    change(live)
    assert (find_drift(DEPLOYMENT, live) or "").startswith(".")


@pytest.mark.parametrize(
    ("kind", "path"),
    [("Service", ["selector"]), ("PodDisruptionBudget", ["selector", "matchLabels"]), ("NetworkPolicy", ["podSelector"])],
)
def test_a_selector_is_ours_as_a_whole(kind: str, path: list[str]) -> None:
    """One more key, and the Service sends requests to nobody while every pod is ready."""
    desired = next(child for child in CHILDREN if child["kind"] == kind)
    live = copy.deepcopy(desired)
    selector = live["spec"]
    for step in path:
        selector = selector[step]
    selector["matchExpressions" if path == ["podSelector"] else "x"] = "y"
    assert find_drift(desired, live) == ".spec." + ".".join(path)


OPENED: list[Change] = [
    lambda b: b["spec"]["ingress"][0]["from"][0].update(namespaceSelector={}),
    lambda b: b["spec"]["ingress"][0]["ports"][0].update(endPort=9999),
    lambda b: b["spec"]["ingress"][1]["from"][0].update(podSelector={"matchLabels": {"a": "b"}}),
    lambda b: b["spec"]["ingress"][1]["from"][0]["namespaceSelector"].update(matchExpressions=[1]),
    lambda b: b["spec"]["egress"][0].update(to=[{"podSelector": {}}]),
]


@pytest.mark.parametrize("change", OPENED)
def test_an_item_of_a_list_without_keys_is_ours_as_a_whole(change: Change) -> None:
    """To apply such a list is to replace it. One more member of a peer lets the whole cluster in, or nobody."""
    desired = next(child for child in CHILDREN if child["kind"] == "NetworkPolicy")
    live = copy.deepcopy(desired)
    assert find_drift(desired, live) is None
    change(live)
    assert (find_drift(desired, live) or "").startswith(".spec.")


def test_a_deployment_that_was_paused_by_hand_goes_on() -> None:
    """`kubectl rollout pause`: no change of the model would ever arrive, and nothing would say why."""
    live = copy.deepcopy(DEPLOYMENT)
    live["spec"].pop("paused", None)
    assert find_drift(DEPLOYMENT, live) is None, "the API server leaves out what is false"
    live["spec"]["paused"] = True
    assert find_drift(DEPLOYMENT, live) == ".spec.paused"


def test_a_field_that_is_no_longer_wanted_is_a_change() -> None:
    body = {"metadata": {"name": "a"}, "spec": {"x": 1, "y": 2}}
    fewer = {"metadata": {"name": "a"}, "spec": {"x": 1}}
    assert find_drift(stamp(fewer), stamp(body)) == "changed" and find_drift(stamp(body), None) == "absent"


def test_empty_values_that_the_api_server_drops_are_no_drift() -> None:
    body = {"metadata": {"name": "a"}, "spec": {"empty": {}, "none": [], "text": ""}}
    live = {"metadata": stamp(body)["metadata"], "spec": {}}
    assert find_drift(stamp(body), live) is None

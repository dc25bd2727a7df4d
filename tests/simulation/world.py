"""Builders of models and of what is seen around them, shared by the tests of core."""

from dataclasses import replace
from typing import Any

from localmodel.api.localmodel import LocalModel, parse_localmodel
from localmodel.core.observe import Container, Observed, Pod
from localmodel.core.options import Images, Options
from localmodel.core.plan import Plan, plan
from simulation.fake_gateway import build_report

NOW = "2026-11-25T12:00:00Z"
CPU: dict[str, Any] = {"model": {"source": {"pvc": {"claimName": "models", "path": "smol"}}}, "gpu": {"count": 0}}


def build_model(name: str = "chat", uid: str = "u1", created: str = "2026-01-01T00:00:00Z", **changes: Any) -> LocalModel:
    metadata = {"name": name, "namespace": "llm", "uid": uid, "generation": 3, "creationTimestamp": created}
    model = parse_localmodel({"metadata": metadata, "spec": {**CPU, **changes}})
    assert isinstance(model, LocalModel), model
    return model


def build_options(**changes: Any) -> Options:
    return Options(images=Images(triton="triton:1", gateway="gateway:1"), operator_namespace="ops", **changes)


def apply_plan(planned: Plan, observed: Observed) -> Observed:
    """What a perfect API server holds afterwards."""
    children = dict(observed.children)
    for desired in planned.apply:
        key = (desired["kind"], desired["metadata"]["name"])
        uid = children.get(key, {}).get("metadata", {}).get("uid", f"uid-{key[0]}-{key[1]}")
        children[key] = {**desired, "metadata": {**desired["metadata"], "uid": uid}}
    for each in planned.prune:
        assert children[(each.kind, each.name)]["metadata"]["uid"] == each.uid
        del children[(each.kind, each.name)]
    return replace(observed, children=children)


def settle(observed: Observed) -> Observed:
    """The Deployment's controller has done its work."""
    children = dict(observed.children)
    for key, body in observed.children.items():
        if key[0] == "Deployment":
            replicas = body["spec"]["replicas"]
            children[key] = {**body, "status": {"replicas": replicas, "updatedReplicas": replicas}}
    return replace(observed, children=children)


def build_pod(name: str, revision: str, *, ready: bool = True, **changes: Any) -> Pod:
    fields: dict[str, Any] = {"uid": name, "ip": "10.0.0.1", "phase": "Running", "scheduled": True, "created": name}
    return Pod(name=name, revision=revision, ready=ready, **{**fields, **changes})


def build_container(name: str = "triton", **changes: Any) -> Container:
    return Container(name=name, **changes)


def observe_running(model: LocalModel, options: Options, state: str = "Ready", message: str = "") -> tuple[Plan, Observed]:
    """Applied, settled, and every replica in `state`."""
    observed = settle(apply_plan(plan(model, options, Observed(claim="Found")), Observed(claim="Found")))
    planned = plan(model, options, observed)
    pods = tuple(build_pod(f"p{i}", planned.revision, ready=state == "Ready") for i in range(model.spec.replicas))
    reports = {pod.name: build_report(pod.name, state, message) for pod in pods}
    observed = replace(observed, pods=pods, gateways=reports)
    return plan(model, options, observed), observed

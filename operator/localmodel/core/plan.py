"""plan(model, options, observed) -> Plan: what should exist, what should go, and why, in sentences.

Idempotent: applied to its own result it asks for the same. A refusal (a name that is taken) changes nothing at all,
so that what serves keeps serving.
"""

from dataclasses import dataclass
from typing import Any

from localmodel.api.localmodel import LocalModel
from localmodel.core.children.configmap import build_configmap
from localmodel.core.children.deployment import build_deployment
from localmodel.core.children.headless_service import build_headless_service
from localmodel.core.children.networkpolicy import build_networkpolicy
from localmodel.core.children.pdb import build_pdb
from localmodel.core.children.service import build_service
from localmodel.core.children.serviceaccount import build_serviceaccount
from localmodel.core.conflicts import Refusal, find_conflict
from localmodel.core.drift import stamp
from localmodel.core.names import revision_name
from localmodel.core.observe import (
    ChildKey,
    Observed,
    is_configmap,
    live_revision,
    owner_uid,
    revision_of_configmap,
    summarize_rollout,
)
from localmodel.core.options import Options
from localmodel.core.revision import Revision, build_revision, read_revision
from localmodel.core.rollout import derive_strategy
from localmodel.core.sizing import Sizing, derive_sizing


@dataclass(frozen=True)
class Prune:
    """An object of ours that is no longer wanted; deleted only if it is still the one that was seen."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True)
class Plan:
    sizing: Sizing
    replicas: int
    """How many pods should run now: while nothing is changed, what the Deployment was told last, not what the spec says."""
    apply: tuple[dict[str, Any], ...] = ()
    """Complete desired objects, in the order in which they are to be applied."""
    prune: tuple[Prune, ...] = ()
    notes: tuple[str, ...] = ()
    refusal: Refusal | None = None
    revision: str = ""
    """Of the pods that should run; empty if none should, or nothing is known of them."""
    upgrade_pending: bool = False
    """The operator would make other pods today, and leaves these alone until the spec changes."""


def plan(model: LocalModel, options: Options, observed: Observed) -> Plan:
    sizing = derive_sizing(model, options)
    if model.spec.paused:
        left, why = _live_replicas(model, observed), "Paused: nothing is written but the status."
        return Plan(sizing, left, notes=(why,), revision=live_revision(observed))
    rendered = build_revision(model, options)
    revision = _revision_in_force(model, rendered, observed) or rendered
    wanted = _build_children(model, options, revision, observed)
    if refusal := find_conflict(model, [_key(child) for child in wanted], observed):
        left = _live_replicas(model, observed)
        return Plan(sizing, left, notes=(refusal.message,), refusal=refusal, revision=live_revision(observed))
    strategy = derive_strategy(model, revision.name, observed)
    kept = revision.name != rendered.name
    notes = [strategy.note] if strategy.note else []
    if kept:
        notes.append(
            f"The operator's defaults lead to another pod ({rendered.name} instead of {revision.name}); "
            "the running one is kept until the spec changes."
        )
    prune = _find_superfluous(model, revision, [_key(child) for child in wanted], observed)
    notes += [f"{each.kind} {each.name} is no longer wanted." for each in prune]
    return Plan(sizing, model.spec.replicas, tuple(wanted), prune, tuple(notes), None, revision.name, kept)


def _live_replicas(model: LocalModel, observed: Observed) -> int:
    deployment = observed.deployment
    if deployment is None or owner_uid(deployment) != model.uid:
        return model.spec.replicas
    return int(deployment.get("spec", {}).get("replicas", 1))


def _revision_in_force(model: LocalModel, rendered: Revision, observed: Observed) -> Revision | None:
    """The recorded revision that the Deployment runs, if it was made from the spec as it is now."""
    name = live_revision(observed)
    body = observed.children.get(("ConfigMap", revision_name(model, name))) if name else None
    recorded = read_revision(body, name) if body and owner_uid(body) == model.uid else None
    return recorded if recorded and recorded.spec_hash == rendered.spec_hash else None


def _build_children(model: LocalModel, options: Options, revision: Revision, observed: Observed) -> list[dict[str, Any]]:
    strategy = derive_strategy(model, revision.name, observed)
    policies = [build_networkpolicy(model, options)] if options.network_policy.enabled else []
    children = [
        build_serviceaccount(model),
        build_configmap(model, revision),
        *policies,
        build_service(model),
        build_headless_service(model),
        build_pdb(model),
        build_deployment(model, options, revision.template, strategy),
    ]
    return [stamp(child) for child in children]


def _find_superfluous(model: LocalModel, revision: Revision, wanted: list[ChildKey], observed: Observed) -> tuple[Prune, ...]:
    """Old revisions stay while any pod may still start from them."""
    used = {pod.revision for pod in observed.pods} | {revision.name}
    settled = summarize_rollout(observed.deployment).settled and live_revision(observed) == revision.name
    return tuple(
        Prune(kind=key[0], name=key[1], uid=body["metadata"]["uid"])
        for key, body in sorted(observed.children.items())
        if key not in wanted
        and owner_uid(body) == model.uid
        and "deletionTimestamp" not in body["metadata"]
        and (not is_configmap(key) or (settled and revision_of_configmap(key[1]) not in used))
    )


def _key(child: dict[str, Any]) -> ChildKey:
    return child["kind"], child["metadata"]["name"]

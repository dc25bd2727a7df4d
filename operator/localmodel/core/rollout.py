"""How pods are replaced: one more at a time where there is room, one less where a GPU has to be freed first."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localmodel.api import constants
from localmodel.api.localmodel import LocalModel
from localmodel.api.values import parse_quantity
from localmodel.core.observe import Observed, Pod


@dataclass(frozen=True)
class Strategy:
    max_surge: int
    max_unavailable: int
    note: str = ""


SURGE = Strategy(max_surge=1, max_unavailable=0)
IN_PLACE = Strategy(
    max_surge=0,
    max_unavailable=1,
    note="No GPU is free for a pod of the new revision: pods are replaced in place, one after the other.",
)


_SHORTAGE = "Insufficient "
"""The scheduler's word where a node would do if less of it were taken."""
_ADMITTED = "node.kubernetes.io/"
"""Begins the key of tolerations that Kubernetes gives to each pod."""


def derive_strategy(model: LocalModel, revision: str, template: dict[str, Any], observed: Observed) -> Strategy:
    """In place only if the new pod waits and could take an old one's place: else a serving pod dies for nothing."""
    if not model.spec.gpu.count:
        return SURGE
    waiting = any(pod.revision == revision and _SHORTAGE in pod.unschedulable for pod in observed.live_pods)
    old = [pod for pod in observed.live_pods if pod.revision != revision and pod.scheduled]
    return IN_PLACE if waiting and any(_makes_room(pod, template["spec"]) for pod in old) else SURGE


def _makes_room(old: Pod, wanted: dict[str, Any]) -> bool:
    """It frees all that the new pod asks for, on a node that the new pod may run on."""
    engine = next(c for c in wanted["containers"] if c["name"] == constants.CONTAINER_TRITON)
    freed, selector, tolerations = dict(old.requests), wanted.get("nodeSelector", {}), wanted.get("tolerations", ())
    needed = (each for each in old.tolerations if not each.get("key", "").startswith(_ADMITTED))
    return (
        all(parse_quantity(freed.get(k, "0")) >= parse_quantity(v) for k, v in engine["resources"]["requests"].items())
        and selector.items() <= old.node_selector.items()
        and all(any(_covers(each, one) for each in tolerations) for one in needed)
    )


def _covers(wide: Mapping[str, Any], narrow: Mapping[str, Any]) -> bool:
    """Whether every taint that `narrow` tolerates is tolerated by `wide`."""
    exists = wide.get("operator") == "Exists"
    return (
        ((exists and not wide.get("key")) or wide.get("key") == narrow.get("key"))
        and (exists or (narrow.get("operator") != "Exists" and wide.get("value", "") == narrow.get("value", "")))
        and wide.get("effect", "") in ("", narrow.get("effect", ""))
    )

"""How pods are replaced: one more at a time where there is room, one less where a GPU has to be freed first."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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


def derive_strategy(model: LocalModel, revision: str, observed: Observed) -> Strategy:
    """In place only if a new pod waits and could take an old one's place: else a serving pod dies for nothing."""
    if not model.spec.gpu.count:
        return SURGE
    new = [pod for pod in observed.live_pods if pod.revision == revision and _SHORTAGE in pod.unschedulable]
    old = [pod for pod in observed.live_pods if pod.revision != revision and pod.scheduled]
    return IN_PLACE if any(_can_replace(waiting, serving) for waiting in new for serving in old) else SURGE


def _can_replace(new: Pod, old: Pod) -> bool:
    """The old one frees all that the new one asks for, on a node that the new one may run on.

    Pods are compared, not what we wrote: the cluster may add to all of them, such as a toleration of the GPU's taint.
    """
    freed = dict(old.requests)
    return (
        all(parse_quantity(freed.get(name, "0")) >= parse_quantity(amount) for name, amount in new.requests)
        and new.node_selector.items() <= old.node_selector.items()
        and all(any(_covers(each, needed) for each in new.tolerations) for needed in old.tolerations)
    )


def _covers(wide: Mapping[str, Any], narrow: Mapping[str, Any]) -> bool:
    """Whether every taint that `narrow` tolerates is tolerated by `wide`."""
    exists = wide.get("operator") == "Exists"
    return (
        ((exists and not wide.get("key")) or wide.get("key") == narrow.get("key"))
        and (exists or (narrow.get("operator") != "Exists" and wide.get("value", "") == narrow.get("value", "")))
        and wide.get("effect", "") in ("", narrow.get("effect", ""))
    )

"""How pods are replaced: one more at a time where there is room, one less where a GPU has to be freed first."""

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


def derive_strategy(model: LocalModel, revision: str, template: dict[str, Any], observed: Observed) -> Strategy:
    """In place only if the new pod waits and an old one would free all it needs: else a serving pod dies for nothing."""
    if not model.spec.gpu.count:
        return SURGE
    waiting = any(pod.unschedulable and pod.revision == revision for pod in observed.live_pods)
    old = [pod for pod in observed.live_pods if pod.revision != revision and pod.scheduled]
    wanted = _engine_requests(template)
    return IN_PLACE if waiting and any(_frees(pod, wanted) for pod in old) else SURGE


def _engine_requests(template: dict[str, Any]) -> dict[str, str]:
    engine = next(c for c in template["spec"]["containers"] if c["name"] == constants.CONTAINER_TRITON)
    return dict(engine["resources"]["requests"])


def _frees(pod: Pod, wanted: dict[str, str]) -> bool:
    freed = dict(pod.requests)
    return all(parse_quantity(freed.get(name, "0")) >= parse_quantity(amount) for name, amount in wanted.items())

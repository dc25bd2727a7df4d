"""Names that are taken: by an object that isn't ours, or by an older LocalModel that serves the same name."""

from collections.abc import Iterable
from dataclasses import dataclass

from localmodel.api import constants
from localmodel.api.localmodel import LocalModel
from localmodel.core.names import served_names
from localmodel.core.observe import ChildKey, Observed, owner_uid
from localmodel.core.reasons import Reason


@dataclass(frozen=True)
class Refusal:
    """Why a model is not accepted as it is."""

    reason: Reason
    message: str


def find_conflict(model: LocalModel, wanted: Iterable[ChildKey], observed: Observed) -> Refusal | None:
    return _find_served_name_conflict(model, observed) or _find_name_conflict(model, wanted, observed)


def _find_served_name_conflict(model: LocalModel, observed: Observed) -> Refusal | None:
    """The older one wins; of two made in one second, the one whose uid sorts first."""
    own, rank = set(served_names(model)), (model.creation_timestamp, model.uid)
    for rival in sorted(observed.rivals, key=lambda each: (each.creation_timestamp, each.uid)):
        shared = sorted(own.intersection(rival.served_names))
        if shared and (rival.creation_timestamp, rival.uid) < rank:
            names = ", ".join(shared)
            return Refusal(Reason.SERVED_NAME_CONFLICT, f"LocalModel {rival.name} is older and is to serve {names}, too.")
    return None


def _find_name_conflict(model: LocalModel, wanted: Iterable[ChildKey], observed: Observed) -> Refusal | None:
    for kind, name in wanted:
        body = observed.children.get((kind, name))
        if body is None or owner_uid(body) == model.uid:
            continue
        owners = body.get("metadata", {}).get("ownerReferences") or ()
        if any(each.get("kind") == constants.KIND and each.get("name") == model.name for each in owners):
            message = f"{kind} {name} still belongs to a deleted LocalModel of the same name."
            return Refusal(Reason.PREDECESSOR_TERMINATING, message)
        message = f"A {kind} named {name} exists that does not belong to this LocalModel; it is left as it is."
        return Refusal(Reason.NAME_CONFLICT, message)
    return None

"""Names of children: deterministic, so that any replica of the operator finds what another one made."""

from typing import Any

from localmodel.api import constants
from localmodel.api.localmodel import LocalModel

HASH_LENGTH = 10


def deployment_name(model: LocalModel) -> str:
    """Also the name of the Service, ServiceAccount, PodDisruptionBudget and NetworkPolicy."""
    return model.name


def headless_service_name(model: LocalModel) -> str:
    return f"{model.name}-pods"


def revision_name(model: LocalModel, revision: str) -> str:
    """The ConfigMap of one revision: its name changes with its content, which is immutable."""
    return f"{model.name}-{revision}"


def endpoint_url(model: LocalModel) -> str:
    return f"http://{model.name}.{model.namespace}.svc/v1"


def served_names(model: LocalModel) -> tuple[str, ...]:
    return model.spec.model.served_names or (model.name,)


def owner_reference(model: LocalModel) -> dict[str, Any]:
    """`blockOwnerDeletion` stays away: it needs a right on the owner's finalizers, and nothing may hold up a deletion."""
    return {
        "apiVersion": constants.API_VERSION,
        "kind": constants.KIND,
        "name": model.name,
        "uid": model.uid,
        "controller": True,
    }

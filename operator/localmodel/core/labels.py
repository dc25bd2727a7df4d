"""Labels and metadata that every child carries. `version` is never a label: it may change without a new selector."""

from typing import Any

from localmodel.api import constants
from localmodel.api.localmodel import LocalModel
from localmodel.core.names import owner_reference

CHILD_SELECTOR = constants.LABEL_MODEL
"""Label selector of everything that belongs to some LocalModel."""


def selector_labels(model: LocalModel) -> dict[str, str]:
    """Immutable in a Deployment: nothing but the name may ever stand here."""
    return {constants.LABEL_MODEL: model.name}


def child_labels(model: LocalModel) -> dict[str, str]:
    return {
        **selector_labels(model),
        constants.LABEL_APP: constants.APP_NAME,
        constants.LABEL_COMPONENT: "model",
        constants.LABEL_INSTANCE: model.name,
        constants.LABEL_MANAGED_BY: constants.MANAGED_BY,
    }


def child_metadata(model: LocalModel, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": model.namespace,
        "labels": child_labels(model),
        "ownerReferences": [owner_reference(model)],
    }


def format_selector(model: LocalModel) -> str:
    """For the scale subresource."""
    return ",".join(f"{key}={value}" for key, value in selector_labels(model).items())

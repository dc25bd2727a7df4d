"""The PodDisruptionBudget: one pod at a time. With one replica it blocks nothing: a node must always be drainable."""

from typing import Any

from localmodel.api.localmodel import LocalModel
from localmodel.core.kinds import POD_DISRUPTION_BUDGET
from localmodel.core.labels import child_metadata, selector_labels
from localmodel.core.names import deployment_name


def build_pdb(model: LocalModel) -> dict[str, Any]:
    return {
        "apiVersion": POD_DISRUPTION_BUDGET.api_version,
        "kind": POD_DISRUPTION_BUDGET.name,
        "metadata": child_metadata(model, deployment_name(model)),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": selector_labels(model)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }

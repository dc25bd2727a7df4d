"""The Deployment: replicas, roll-out strategy and the pod template of one revision."""

from typing import Any

from localmodel.api.localmodel import LocalModel
from localmodel.core.kinds import DEPLOYMENT
from localmodel.core.labels import child_metadata, selector_labels
from localmodel.core.names import deployment_name
from localmodel.core.options import Options
from localmodel.core.rollout import Strategy


def build_deployment(model: LocalModel, options: Options, template: dict[str, Any], strategy: Strategy) -> dict[str, Any]:
    return {
        "apiVersion": DEPLOYMENT.api_version,
        "kind": DEPLOYMENT.name,
        "metadata": child_metadata(model, deployment_name(model)),
        "spec": {
            "paused": False,
            "replicas": model.spec.replicas,
            "selector": {"matchLabels": selector_labels(model)},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": strategy.max_surge, "maxUnavailable": strategy.max_unavailable},
            },
            "progressDeadlineSeconds": options.rollout.progress_deadline_seconds,
            "revisionHistoryLimit": options.rollout.revision_history_limit,
            "template": template,
        },
    }

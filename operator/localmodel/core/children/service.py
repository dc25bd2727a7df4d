"""The Service that clients call: port 80 to the gateways of ready pods."""

from typing import Any

from localmodel.api import constants
from localmodel.api.localmodel import LocalModel
from localmodel.core.kinds import SERVICE
from localmodel.core.labels import child_metadata, selector_labels
from localmodel.core.names import deployment_name


def build_service(model: LocalModel) -> dict[str, Any]:
    return {
        "apiVersion": SERVICE.api_version,
        "kind": SERVICE.name,
        "metadata": child_metadata(model, deployment_name(model)),
        "spec": {
            "type": "ClusterIP",
            "selector": selector_labels(model),
            "ports": [{"name": "http", "port": constants.SERVICE_PORT, "targetPort": "http", "protocol": "TCP"}],
        },
    }

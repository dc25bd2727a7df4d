"""A headless Service over all pods, ready or not: each pod's own address, for people and for Prometheus."""

from typing import Any

from localmodel.api import constants
from localmodel.api.localmodel import LocalModel
from localmodel.core.kinds import SERVICE
from localmodel.core.labels import child_metadata, selector_labels
from localmodel.core.names import headless_service_name


def build_headless_service(model: LocalModel) -> dict[str, Any]:
    return {
        "apiVersion": SERVICE.api_version,
        "kind": SERVICE.name,
        "metadata": child_metadata(model, headless_service_name(model)),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": selector_labels(model),
            "ports": [
                {"name": "http", "port": constants.SERVING_PORT, "targetPort": "http", "protocol": "TCP"},
                {"name": "admin", "port": constants.ADMIN_PORT, "targetPort": "admin", "protocol": "TCP"},
            ],
        },
    }

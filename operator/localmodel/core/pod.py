"""The pod template: Triton with the engine as the main container, the gateway as a native sidecar in front of it.

It runs under Pod Security *restricted* (but for hostPath, which that standard forbids), always has limits, and holds
nothing that depends on the operator's version: an upgraded operator must not restart a running model.
"""

import math
from typing import Any

from localmodel.api import constants
from localmodel.api.localmodel import LocalModel
from localmodel.api.values import parse_duration
from localmodel.core import volumes
from localmodel.core.labels import child_labels, selector_labels
from localmodel.core.names import deployment_name
from localmodel.core.options import Options
from localmodel.core.render import Layout, triton_command
from localmodel.core.sizing import Sizing, gateway_resources, log_files_bytes
from localmodel.core.triton import without_cards

USER = 65532
_CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def build_pod_layout(model: LocalModel, options: Options, sizing: Sizing) -> Layout:
    return Layout(
        model_path=volumes.model_path(model),
        device="cuda" if model.spec.gpu.count else "cpu",
        host_memory_bytes=sizing.memory_limit,
        cpu_threads=sizing.cpu_threads,
        endpoint_removal_seconds=options.gateway.endpoint_removal_seconds,
        step_timeout_seconds=options.gateway.step_timeout_seconds,
    )


def build_pod_template(model: LocalModel, options: Options, sizing: Sizing, *, revision: str, config_map: str) -> dict[str, Any]:
    placement = model.spec.placement
    spec: dict[str, Any] = {
        "serviceAccountName": deployment_name(model),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_seconds(model, options),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [_gateway_container(model, options)],
        "containers": [_triton_container(model, options, sizing)],
        "volumes": volumes.build_volumes(model, options, sizing, config_map=config_map),
        "topologySpreadConstraints": [
            {
                "topologyKey": "kubernetes.io/hostname",
                "maxSkew": 1,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector_labels(model)},
                "matchLabelKeys": ["pod-template-hash"],
            }
        ],
    }
    if options.images.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in options.images.pull_secrets]
    if placement.node_selector:
        spec["nodeSelector"] = dict(placement.node_selector)
    if placement.tolerations:
        spec["tolerations"] = [t.model_dump(mode="json", by_alias=True, exclude_none=True) for t in placement.tolerations]
    if placement.priority_class_name:
        spec["priorityClassName"] = placement.priority_class_name
    annotations = {
        constants.ANNOTATION_CONFIG_HASH: revision,
        constants.ANNOTATION_MODEL_VERSION: model.spec.model.version,
    }
    return {"metadata": {"labels": child_labels(model), "annotations": annotations}, "spec": spec}


def grace_seconds(model: LocalModel, options: Options) -> int:
    """Long enough for the longest request that may still be running when the pod is told to go."""
    total = parse_duration(model.spec.gateway.timeouts.total)
    return math.ceil(total + options.gateway.endpoint_removal_seconds) + options.rollout.termination_margin_seconds


def _triton_container(model: LocalModel, options: Options, sizing: Sizing) -> dict[str, Any]:
    times = options.probes
    backend_probe = {"httpGet": {"path": "/livez/backend", "port": constants.ADMIN_PORT}, "timeoutSeconds": times.timeout_seconds}
    return {
        "name": constants.CONTAINER_TRITON,
        "image": model.spec.runtime.image or options.images.triton,
        "imagePullPolicy": options.images.pull_policy,
        "command": triton_command(build_pod_layout(model, options, sizing), sizing.gpus),
        "env": [
            {"name": "HOME", "value": "/tmp"},
            {"name": "OMP_NUM_THREADS", "value": str(sizing.cpu_threads)},
            {"name": "PYTHONDONTWRITEBYTECODE", "value": "1"},
            *({"name": name, "value": value} for name, value in (without_cards() if sizing.gpus else {}).items()),
        ],
        "resources": sizing.resources(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": _CONTAINER_SECURITY,
        "volumeMounts": volumes.triton_mounts(),
        "startupProbe": {
            **backend_probe,
            "periodSeconds": times.startup_period_seconds,
            "failureThreshold": math.ceil(times.startup_limit_seconds / times.startup_period_seconds),
        },
        "livenessProbe": {
            **backend_probe,
            "periodSeconds": times.liveness_period_seconds,
            "failureThreshold": times.liveness_failures,
            "terminationGracePeriodSeconds": times.hung_grace_seconds,
        },
        "lifecycle": {"preStop": {"httpGet": {"path": "/drain", "port": constants.ADMIN_PORT}}},
    }


def _gateway_container(model: LocalModel, options: Options) -> dict[str, Any]:
    times = options.probes
    livez = {"httpGet": {"path": "/livez", "port": constants.ADMIN_PORT}, "timeoutSeconds": times.timeout_seconds}
    readyz = {"httpGet": {"path": "/readyz", "port": constants.ADMIN_PORT}, "timeoutSeconds": times.timeout_seconds}
    return {
        "name": constants.CONTAINER_GATEWAY,
        "image": options.images.gateway,
        "imagePullPolicy": options.images.pull_policy,
        "restartPolicy": "Always",
        "args": ["--settings", f"{constants.SETTINGS_MOUNT}/{constants.FILE_GATEWAY_JSON}"],
        "ports": [
            {"name": "http", "containerPort": constants.SERVING_PORT, "protocol": "TCP"},
            {"name": "admin", "containerPort": constants.ADMIN_PORT, "protocol": "TCP"},
        ],
        "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "resources": gateway_resources(options.gateway, log_files_bytes(model)),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": _CONTAINER_SECURITY,
        "volumeMounts": volumes.gateway_mounts(model),
        "startupProbe": {**livez, "periodSeconds": 1, "failureThreshold": 60},
        "livenessProbe": {**livez, "periodSeconds": times.liveness_period_seconds, "failureThreshold": times.liveness_failures},
        "readinessProbe": {
            **readyz,
            "periodSeconds": times.readiness_period_seconds,
            "failureThreshold": times.readiness_failures,
        },
    }

"""The pod's volumes and where each container sees them.

The whole volume of the model is mounted and the path inside it goes to the engine: a wrong path then shows as the
engine's own message instead of a kubelet's, and nothing is ever created in the user's volume.
"""

import posixpath
from typing import Any

from localmodel.api import constants
from localmodel.api.localmodel import LocalModel
from localmodel.core.options import Options, amount_bytes
from localmodel.core.quantities import format_memory
from localmodel.core.sizing import Sizing, log_files_bytes

_RUN_BYTES = 2**20


def model_path(model: LocalModel) -> str:
    """The model's directory, as both containers see it."""
    pvc = model.spec.model.source.pvc
    inside = posixpath.normpath(pvc.path) if pvc and pvc.path else "."
    return constants.MODEL_MOUNT if inside == "." else f"{constants.MODEL_MOUNT}/{inside}"


def build_volumes(model: LocalModel, options: Options, sizing: Sizing, *, config_map: str) -> list[dict[str, Any]]:
    scratch = min(amount_bytes(options.engine.scratch), sizing.storage_limit)
    secret = model.spec.gateway.auth.secret_ref
    keys = [{"name": "keys", "secret": {"secretName": secret.name, "optional": True}}] if secret else []
    chain_key = model.spec.gateway.logging.chain_key_ref
    log_bytes = log_files_bytes(model)
    return [
        {"name": "model", **_model_volume(model)},
        {"name": "config", "configMap": {"name": config_map}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": format_memory(amount_bytes(options.engine.shared_memory))}},
        {"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": format_memory(_RUN_BYTES)}},
        {"name": "tmp", "emptyDir": {"sizeLimit": format_memory(scratch)}},
        *keys,
        *([{"name": "log", "emptyDir": {"sizeLimit": format_memory(log_bytes)}}] if log_bytes else []),
        *([{"name": "log-key", "secret": {"secretName": chain_key.name, "optional": True}}] if chain_key else []),
    ]


def triton_mounts() -> list[dict[str, Any]]:
    llm = f"{constants.REPOSITORY_MOUNT}/{constants.TRITON_MODEL_NAME}"
    return [
        *_shared_mounts(),
        _file_mount(f"{llm}/{constants.FILE_CONFIG_PBTXT}", constants.FILE_CONFIG_PBTXT),
        _file_mount(f"{llm}/1/{constants.FILE_MODEL_JSON}", constants.FILE_MODEL_JSON),
        {"name": "shm", "mountPath": "/dev/shm"},
    ]


def gateway_mounts(model: LocalModel) -> list[dict[str, Any]]:
    """A Secret may be missing: then the gateway lets nobody in, or does not start, and can say so."""
    path = f"{constants.SETTINGS_MOUNT}/{constants.FILE_GATEWAY_JSON}"
    secret = model.spec.gateway.auth.secret_ref
    keys = [{"name": "keys", "mountPath": constants.KEYS_MOUNT, "readOnly": True}] if secret else []
    logging = model.spec.gateway.logging
    return [
        *_shared_mounts(),
        _file_mount(path, constants.FILE_GATEWAY_JSON),
        *keys,
        *([{"name": "log", "mountPath": constants.LOG_MOUNT}] if logging.file else []),
        *([{"name": "log-key", "mountPath": constants.LOG_KEY_MOUNT, "readOnly": True}] if logging.chain_key_ref else []),
    ]


def _shared_mounts() -> list[dict[str, Any]]:
    return [
        {"name": "model", "mountPath": constants.MODEL_MOUNT, "readOnly": True},
        {"name": "run", "mountPath": constants.RUN_MOUNT},
        {"name": "tmp", "mountPath": "/tmp"},
    ]


def _file_mount(path: str, key: str) -> dict[str, Any]:
    return {"name": "config", "mountPath": path, "subPath": key, "readOnly": True}


def _model_volume(model: LocalModel) -> dict[str, Any]:
    source = model.spec.model.source
    if source.pvc:
        return {"persistentVolumeClaim": {"claimName": source.pvc.claim_name, "readOnly": True}}
    return {"hostPath": {"path": source.host_path.path if source.host_path else "/", "type": ""}}

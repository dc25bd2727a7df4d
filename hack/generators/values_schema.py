"""values.schema.json: a typo in a value fails at `helm install`, with the name it has in the code.

Packaging is described here by hand; `config` is the schema of OperatorSettings. Every object refuses keys it does not know.
"""

import json
from typing import Any

from localmodel.controller.settings import OperatorSettings

PATH = "charts/localmodel-operator/values.schema.json"
SET_BY_CHART = ("namespace", "identity", "server")
"""Settings that follow from the Deployment; a second opinion in `config` could only be wrong."""

Schema = dict[str, Any]


def outputs() -> dict[str, str]:
    return {PATH: json.dumps(build_schema(), indent=2) + "\n"}


def build_schema() -> Schema:
    settings = strip(OperatorSettings.model_json_schema())
    definitions = settings.pop("$defs")
    for name in SET_BY_CHART:
        del settings["properties"][name]
    used = _find_used(settings, definitions)
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **_object(_PACKAGING | {"config": settings, "global": {"type": "object"}}),
        "required": ["image", "config", "serviceAccount", "crds", "rbac", "networkPolicy", "monitoring"],
        "$defs": {name: schema for name, schema in definitions.items() if name in used},
    }


def strip(schema: Any) -> Any:
    """Without titles and Kubernetes' rules, which only the API server reads; objects with known keys are closed."""
    if isinstance(schema, list):
        return [strip(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes-")}
    if isinstance(kept.get("title"), str):
        del kept["title"]
    for key, value in kept.items():
        by_name = key in ("properties", "$defs")
        kept[key] = {name: strip(each) for name, each in value.items()} if by_name else strip(value)
    return kept | {"additionalProperties": False} if "properties" in kept else kept


def _find_used(schema: Schema, definitions: Schema) -> set[str]:
    """Names of definitions that are reached from a schema."""
    used: set[str] = set()
    open_names = _list_references(schema)
    while open_names:
        name = open_names.pop()
        if name not in used:
            used.add(name)
            open_names |= _list_references(definitions[name])
    return used


def _list_references(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return set().union(*map(_list_references, schema))
    if not isinstance(schema, dict):
        return set()
    own = {schema["$ref"].rsplit("/", 1)[-1]} if isinstance(schema.get("$ref"), str) else set()
    return own.union(*map(_list_references, schema.values()))


def _object(properties: Schema) -> Schema:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _map_of_strings() -> Schema:
    return {"type": "object", "additionalProperties": {"type": "string"}}


_STRING: Schema = {"type": "string"}
_NAME: Schema = {"type": "string", "minLength": 1}
_FLAG: Schema = {"type": "boolean"}
_QUANTITIES: Schema = _object({name: {"type": ["string", "number"]} for name in ("cpu", "memory", "ephemeral-storage")})
_TOLERATION = _object(
    {
        "key": _STRING,
        "operator": {"enum": ["Exists", "Equal"]},
        "value": _STRING,
        "effect": {"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
        "tolerationSeconds": {"type": "integer"},
    }
)
_AFFINITY = _object({name: {"type": "object"} for name in ("nodeAffinity", "podAffinity", "podAntiAffinity")})

_PACKAGING: Schema = {
    "image": _object(
        {
            "repository": _NAME,
            "tag": _STRING,
            "digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
            "pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
            "pullSecrets": {"type": "array", "items": _object({"name": _NAME}) | {"required": ["name"]}},
        }
    ),
    "replicas": {"type": "integer", "minimum": 0, "maximum": 5},
    "resources": _object({"requests": _QUANTITIES, "limits": _QUANTITIES}),
    "nodeSelector": _map_of_strings(),
    "tolerations": {"type": "array", "items": _TOLERATION},
    "affinity": _AFFINITY,
    "priorityClassName": _STRING,
    "podLabels": _map_of_strings(),
    "podAnnotations": _map_of_strings(),
    "crds": _object({"install": _FLAG}),
    "rbac": _object({"create": _FLAG, "userRoles": _FLAG}),
    "serviceAccount": _object({"create": _FLAG, "name": _NAME}),
    "networkPolicy": _object(
        {
            "enabled": _FLAG,
            "apiServerPorts": {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 1, "maximum": 65535}},
        }
    ),
    "monitoring": _object({"dashboards": _FLAG, "rules": _FLAG, "podMonitors": _FLAG, "labels": _map_of_strings()}),
}

"""The CustomResourceDefinition, from the pydantic models of spec and status: JSON schema -> structural schema -> CRD, as a dict.

Pure. It knows Kubernetes' structural schemas and CEL's need for limits, not the fields of a LocalModel. A keyword that it
does not know is an error here, so that no new construct of pydantic reaches the API server unread.
"""

import json
from typing import Any

from pydantic import BaseModel

from localmodel.api.constants import CATEGORY, GROUP, KIND, PLURAL, SHORT_NAME, SINGULAR, VERSION
from localmodel.api.rules import KEYWORD as _RULES
from localmodel.api.spec import LocalModelSpec
from localmodel.api.status import LocalModelStatus

Schema = dict[str, Any]

_LIMITS = ("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "maxProperties", "format", "enum", "required")
_KUBERNETES = ("x-kubernetes-int-or-string", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type")
_DROPPED = ("title", "$defs")
_ELSEWHERE = ("type", "const", "default", "properties", "items", "additionalProperties", "description", "pattern", _RULES)

_DESCRIPTION = (
    "A language model served inside the cluster, by NVIDIA Triton with LocalModel's PyTorch engine, behind a gateway that "
    "speaks the OpenAI API. The least to write is spec.model.source; everything else has a default that works."
)
NAME_RULE = {
    "rule": "self.metadata.name.matches(r'^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 40",
    "message": "write a name that a Service can have: at most 40 lower-case letters, digits and '-', beginning with a letter "
    "and ending with a letter or digit",
    "fieldPath": ".metadata.name",
}
_COLUMNS: tuple[tuple[str, str, str, str, int], ...] = (
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', "True: a request sent now gets an answer.", 0),
    ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', "Why it is Ready, or not.", 0),
    ("Change", "string", '.status.conditions[?(@.type=="Progressing")].reason', "What becomes of the last change.", 0),
    ("Version", "string", ".status.version", "The version that serves now.", 0),
    ("Serving", "integer", ".status.readyReplicas", "Pods that answer requests.", 0),
    ("Replicas", "integer", ".spec.replicas", "Pods that are wanted.", 0),
    ("Memory", "string", ".status.memory.planned", "Memory planned for one replica.", 0),
    ("GPU", "integer", ".spec.gpu.count", "GPUs of one replica.", 0),
    ("Age", "date", ".metadata.creationTimestamp", "Time since it was created.", 0),
    ("Endpoint", "string", ".status.endpoint", "Base URL for OpenAI clients inside the cluster.", 1),
    ("Message", "string", '.status.conditions[?(@.type=="Ready")].message', "What is true now and what to do.", 1),
)


def build_crd() -> dict[str, Any]:
    """The whole CustomResourceDefinition."""
    columns = [
        {"name": name, "type": type_, "jsonPath": path, "description": description} | ({"priority": wide} if wide else {})
        for name, type_, path, description, wide in _COLUMNS
    ]
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _build_root()},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": columns,
    }
    names = {
        "kind": KIND,
        "listKind": f"{KIND}List",
        "plural": PLURAL,
        "singular": SINGULAR,
        "shortNames": [SHORT_NAME],
        "categories": [CATEGORY],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


def build_schema(model: type[BaseModel]) -> Schema:
    """The structural schema of one pydantic model, nested models inlined."""
    document = model.model_json_schema(by_alias=True)
    return _convert(document, document.get("$defs", {}), model.__name__)


def _build_root() -> Schema:
    name = {"type": "string", "maxLength": 253}
    return {
        "description": _DESCRIPTION,
        "type": "object",
        "required": ["spec"],
        _RULES: [NAME_RULE],
        "properties": {
            "apiVersion": {"type": "string", "maxLength": 253, "description": f"{GROUP}/{VERSION}"},
            "kind": {"type": "string", "maxLength": 63, "description": KIND},
            "metadata": {"type": "object", "properties": {"name": name}},
            "spec": _explain(build_schema(LocalModelSpec)),
            "status": build_schema(LocalModelStatus),
        },
    }


def _explain(schema: Schema) -> Schema:
    """Writes range and default into each description, because `kubectl explain` shows neither."""
    facts = []
    if "minimum" in schema and "maximum" in schema:
        facts.append(f"From {schema['minimum']} to {schema['maximum']}.")
    if "default" in schema and "properties" not in schema:
        default = schema["default"]
        facts.append(f"Default: {default if isinstance(default, str) else json.dumps(default)}.")
    for child in (
        *schema.get("properties", {}).values(),
        *(schema[key] for key in ("items", "additionalProperties") if key in schema),
    ):
        _explain(child)
    if "description" in schema:
        schema["description"] = " ".join((schema["description"], *facts))
    return schema


def _convert(node: Schema, definitions: dict[str, Schema], path: str) -> Schema:
    node = _resolve(node, definitions)
    unknown = set(node) - {*_LIMITS, *_KUBERNETES, *_DROPPED, *_ELSEWHERE}
    if unknown:
        raise ValueError(f"{path}: no structural schema for {sorted(unknown)}")
    schema: Schema = {}
    if "description" in node:
        schema["description"] = " ".join(node["description"].split())
    if "type" in node:
        schema["type"] = node["type"]
    schema |= {keyword: node[keyword] for keyword in (*_LIMITS, *_KUBERNETES) if keyword in node}
    if "const" in node:
        schema["enum"] = [node["const"]]
    if "pattern" in node and _RULES not in node:
        schema["pattern"] = node["pattern"]
    if "items" in node:
        schema.setdefault("x-kubernetes-list-type", "atomic")
        schema["items"] = _convert(node["items"], definitions, f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        schema["additionalProperties"] = _convert(node["additionalProperties"], definitions, f"{path}{{}}")
    if "properties" in node:
        schema["properties"] = {k: _convert(v, definitions, f"{path}.{k}") for k, v in node["properties"].items()}
    if (default := _build_default(node, schema)) not in (None, "", [], {}):
        schema["default"] = default
    if _RULES in node:
        schema[_RULES] = node[_RULES]
    return schema


def _resolve(node: Schema, definitions: dict[str, Schema]) -> Schema:
    """Follows $ref and takes the one branch of an optional member; what stands beside them wins (a field's own description)."""
    node = dict(node)
    if options := node.pop("anyOf", None):
        real = [option for option in options if option != {"type": "null"}]
        if len(real) != 1:
            raise ValueError(f"a member has one type or none, not {options}")
        return _resolve({**real[0], **node}, definitions)
    if reference := node.pop("$ref", None):
        return _resolve({**definitions[reference.removeprefix("#/$defs/")], **node}, definitions)
    return node


def _build_default(node: Schema, schema: Schema) -> Any:
    """The default that the API server writes, or None.

    An object's is made of its members' and written out whole, because a rule on the object is evaluated on it as it stands. An
    empty text, list or object is the same as an absent one, and stays absent: the server need not store it.
    """
    if node.get("default") is None:
        return None
    if "properties" in schema:
        return {name: member["default"] for name, member in schema["properties"].items() if "default" in member}
    return node["default"]

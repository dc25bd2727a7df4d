"""What a structural schema needs, checked on the whole CRD without a server: limits for CEL, words for people, no traps."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, Field

from crd_cases import minimal
from localmodel.api.crd import build_crd, build_schema
from localmodel.api.localmodel import LocalModel, parse_localmodel
from localmodel.api.sources import ModelSource
from localmodel.api.spec import LocalModelSpec
from localmodel.api.status import ConditionType

ROOT = Path(__file__).resolve().parents[2]
CRD = build_crd()
VERSION = CRD["spec"]["versions"][0]
Schema = dict[str, Any]


def walk(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}" if path else name)
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if key in schema:
            yield from walk(schema[key], path + mark)


NODES = dict(walk(VERSION["schema"]["openAPIV3Schema"], ""))


def test_no_construct_that_a_structural_schema_forbids() -> None:
    forbidden = {"$ref", "anyOf", "oneOf", "allOf", "not", "const", "title", "uniqueItems", "nullable"}
    for path, schema in NODES.items():
        assert not forbidden & set(schema), path
        assert isinstance(schema.get("additionalProperties", {}), dict), path
        assert ("type" in schema) != schema.get("x-kubernetes-int-or-string", False), path


def test_everything_has_a_limit_because_cel_multiplies_by_it() -> None:
    for path, schema in NODES.items():
        if schema.get("type") == "string":
            assert "maxLength" in schema or "enum" in schema, path
        if schema.get("x-kubernetes-int-or-string"):
            assert "maxLength" in schema, path
        if schema.get("type") == "array":
            assert "maxItems" in schema, path
        if "additionalProperties" in schema:
            assert "maxProperties" in schema, path


def test_the_largest_object_fits_the_annotation_of_apply() -> None:
    """An annotation holds 256 KiB at most. Keys of labels count as 63: a schema can't limit them."""

    def largest(schema: Schema) -> int:
        if "enum" in schema:
            return max(len(value) for value in schema["enum"])
        if "items" in schema:
            return schema["maxItems"] * (largest(schema["items"]) + 3)
        if "additionalProperties" in schema:
            return schema["maxProperties"] * (largest(schema["additionalProperties"]) + 63 + 6)
        if "properties" in schema:
            return sum(len(name) + 6 + largest(child) for name, child in schema["properties"].items())
        return schema.get("maxLength", 20)

    assert largest(NODES["spec"]) < 256 * 1024


def test_lists_say_how_they_merge() -> None:
    for path, schema in NODES.items():
        if schema.get("type") == "array":
            assert schema["x-kubernetes-list-type"] in ("atomic", "set", "map"), path
    assert NODES["spec.model.servedNames"]["x-kubernetes-list-type"] == "set"
    assert NODES["status.conditions"]["x-kubernetes-list-map-keys"] == ["type"]


def test_every_field_is_explained() -> None:
    for path, schema in NODES.items():
        if path.endswith(("[]", "{}")) or path.startswith("metadata"):
            continue
        assert len(schema.get("description", "").split()) >= (1 if path in ("kind", "apiVersion") else 3), path
        assert "  " not in schema["description"] and "\n" not in schema["description"], path


def test_explanations_carry_defaults_and_ranges() -> None:
    assert NODES["spec.contextWindow"]["description"].endswith("From 256 to 1048576. Default: 4096.")
    assert NODES["spec.paused"]["description"].endswith("Default: false.")
    assert NODES["spec.gateway.timeouts.total"]["description"].endswith("Default: 10m.")


def test_every_rule_says_what_to_write() -> None:
    for path, schema in NODES.items():
        for rule in schema.get("x-kubernetes-validations", []):
            assert rule["message"].startswith(("write ", "leave out ", "the kind of source can't be changed: make ")), path
            assert "pattern" not in schema, "the rule has the better message"
            if "fieldPath" in rule:
                assert f"{path}{rule['fieldPath']}".removeprefix(".") in NODES, path


def test_object_defaults_are_whole() -> None:
    """A rule on an object is evaluated on its default as it stands; an empty or partial one would be missing keys."""
    for path, schema in NODES.items():
        if "properties" in schema and path.startswith("spec."):
            members = {k: child["default"] for k, child in schema["properties"].items() if "default" in child}
            if path not in ("spec.model", "spec.model.source") and "default" in schema:
                assert schema["default"] == members != {}, path


def test_no_default_where_a_rule_must_see_what_was_written() -> None:
    for path in ("spec.gpu.memory", "spec.resources", "spec.resources.limits", "spec.resources.requests.cpu"):
        assert "default" not in NODES[path], path
    assert NODES["spec.gpu"]["default"] == {"count": 1, "resourceName": "nvidia.com/gpu"}


def test_rules_of_source_name_every_kind_of_source() -> None:
    exactly_one, immutable = NODES["spec.model.source"]["x-kubernetes-validations"]
    for field in ModelSource.model_fields.values():
        name = field.alias
        assert f"has(self.{name})" in exactly_one["rule"] and name in exactly_one["message"]
        assert f"has(self.{name}) == has(oldSelf.{name})" in immutable["rule"]
        assert name in NODES["spec.model.source"]["description"]


def test_subresources() -> None:
    assert VERSION["subresources"]["status"] == {}
    for name, path in VERSION["subresources"]["scale"].items():
        assert name.endswith("Path") and path.removeprefix(".") in NODES


def test_columns_point_at_fields() -> None:
    for column in VERSION["additionalPrinterColumns"]:
        path = re.sub(r'\[\?\(@\.type=="(\w+)"\)\]', "[]", column["jsonPath"].removeprefix("."))
        assert path in NODES or path == "metadata.creationTimestamp", column
        assert column["description"]
        named = re.findall(r'@\.type=="(\w+)"', column["jsonPath"])
        assert set(named) <= set(ConditionType)


def _apply_defaults(schema: Schema, value: Any) -> Any:
    """As the API server does it."""
    if isinstance(value, dict) and "properties" in schema:
        for name, child in schema["properties"].items():
            if name not in value and "default" in child:
                value[name] = child["default"]
            if name in value:
                _apply_defaults(child, value[name])
    return value


def test_server_and_parser_agree_on_defaults() -> None:
    defaulted = _apply_defaults(NODES["spec"], minimal()["spec"])
    assert LocalModelSpec.model_validate(defaulted) == LocalModelSpec.model_validate(minimal()["spec"])


def _example(name: str) -> dict[str, Any]:
    body: dict[str, Any] = yaml.safe_load((ROOT / "examples" / name).read_text())
    return body


def test_full_example_has_every_field_with_its_default() -> None:
    written = _example("full.yaml")["spec"]
    without_default = {
        "spec.model.source.hostPath", "spec.resources.requests", "spec.resources.limits", "spec.gateway.auth.secretRef",
        "spec.gateway.logging.file", "spec.gateway.logging.chainKeyRef", "spec.model.config",
    }  # fmt: skip

    def check(schema: Schema, value: Any, path: str) -> None:
        for name, child in schema.get("properties", {}).items():
            if f"{path}.{name}" in without_default:
                continue
            assert name in value, f"{path}.{name} is missing in examples/full.yaml"
            check(child, value[name], f"{path}.{name}")

    check(NODES["spec"], written, "spec")
    source = {"model": {"source": written["model"]["source"]}}
    assert LocalModelSpec.model_validate(written) == LocalModelSpec.model_validate(source)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_examples_parse(path: Path) -> None:
    for body in yaml.safe_load_all(path.read_text()):
        if body["kind"] == "LocalModel":
            assert isinstance(parse_localmodel(body), LocalModel)


def test_what_the_converter_does_not_know_is_an_error() -> None:
    class Union(BaseModel):
        either: int | str = Field(description="Two types.")

    class Multiple(BaseModel):
        number: int = Field(multiple_of=2)

    with pytest.raises(ValueError, match="one type or none"):
        build_schema(Union)
    with pytest.raises(ValueError, match="multipleOf"):
        build_schema(Multiple)

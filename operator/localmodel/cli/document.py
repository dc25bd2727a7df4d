"""From a YAML file to one LocalModel, with a sentence for everything that can be wrong with the file.

The API server does this in a cluster; here the same pydantic models decide. Unknown fields are refused, as `kubectl apply`
does; the rules of the CRD hold here as well, except those about sources, which `sources` checks in words of its own.
"""

import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from localmodel.api.constants import API_VERSION, KIND
from localmodel.api.localmodel import Invalid, LocalModel, parse_localmodel
from localmodel.api.spec import LocalModelSpec
from localmodel.api.values import SpecModel
from localmodel.cli.problems import Problem

_NAME = r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?"


def read_localmodel(path: Path) -> tuple[LocalModel, tuple[str, ...]]:
    """The first LocalModel of the file, and notes about what else is in it. Raises Problem."""
    documents = _read_documents(path)
    ours = [d for d in documents if d.get("kind") == KIND]
    if not ours:
        found = ", ".join(str(d.get("kind", "no kind")) for d in documents) or "nothing"
        raise Problem(f"{path} holds no {KIND} (found: {found}); write `kind: {KIND}` and `apiVersion: {API_VERSION}`.")
    body = ours[0]
    if body.get("apiVersion") != API_VERSION:
        raise Problem(f"{path}: apiVersion is {body.get('apiVersion')!r}; write `apiVersion: {API_VERSION}`.")
    return _parse(path, body), _describe_ignored(documents, body)


def _read_documents(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Problem(f"There is no file {path}; give the path of a LocalModel's YAML file.") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise Problem(f"{path} can't be read: {reason}.") from None
    try:
        documents = [d for d in yaml.safe_load_all(text) if d is not None]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        what = getattr(error, "problem", None) or str(error)
        raise Problem(f"{path} is not valid YAML:{where} {what}.") from None
    except ValueError as error:  # of something that looks like a date and is none
        raise Problem(f"{path} is not valid YAML: {error}; write quotes around what is no date.") from None
    if not all(isinstance(d, dict) for d in documents):
        raise Problem(f"{path} is not a Kubernetes object: every document must be a mapping with apiVersion, kind and spec.")
    return documents


def _parse(path: Path, body: dict[str, Any]) -> LocalModel:
    metadata, spec = body.get("metadata"), body.get("spec")
    if not isinstance(metadata, dict) or not re.fullmatch(_NAME, str(metadata.get("name", ""))):
        raise Problem(
            f"{path}: metadata.name is missing or not a name; write up to 40 lower-case letters, digits and '-', "
            "starting with a letter, such as 'qwen-7b'."
        )
    if not isinstance(spec, dict):
        raise Problem(f"{path}: spec is missing; the least is `spec: {{model: {{source: {{pvc: {{claimName: models}}}}}}}}`.")
    unknown = sorted(_unknown_fields(spec, LocalModelSpec, "spec"))
    if unknown:
        raise Problem(f"{path}: unknown field {', '.join(unknown)}; `kubectl explain localmodel.spec` lists the fields.")
    model = parse_localmodel(body)
    if isinstance(model, Invalid):
        raise Problem(f"{path} is not a valid {KIND}: {'; '.join(model.errors)}.")
    return model


def _describe_ignored(documents: list[dict[str, Any]], taken: dict[str, Any]) -> tuple[str, ...]:
    others = [d for d in documents if d is not taken]
    names = ", ".join(f"{d.get('kind', 'no kind')} {(d.get('metadata') or {}).get('name', '')}".strip() for d in others)
    return (f"Ignored in the same file: {names}.",) if others else ()


def _unknown_fields(value: Any, model: type[SpecModel], where: str) -> Iterator[str]:
    """Paths of keys that the pydantic models, which ignore them, don't have."""
    fields = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
    for key, inner in value.items():
        if key not in fields:
            yield f"{where}.{key}"
            continue
        nested = next(_models_in(fields[key]), None)
        for item in inner if isinstance(inner, list) else [inner]:
            if nested and isinstance(item, dict):
                yield from _unknown_fields(item, nested, f"{where}.{key}")


def _models_in(annotation: Any) -> Iterator[type[SpecModel]]:
    if isinstance(annotation, type) and issubclass(annotation, SpecModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)

"""The whole resource, and the one way from a raw body to it."""

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from localmodel.api.spec import LocalModelSpec
from localmodel.api.status import LocalModelStatus

_MOST_ERRORS = 10
_LONGEST_PART = 64


@dataclass(frozen=True)
class LocalModel:
    """A parsed resource: what was asked (spec) and what was last reported (status)."""

    name: str
    namespace: str
    uid: str
    generation: int
    creation_timestamp: str
    spec: LocalModelSpec
    status: LocalModelStatus
    deleting: bool = False


@dataclass(frozen=True)
class Invalid:
    """A body that can't be a LocalModel; `errors` are sentences for the user."""

    name: str
    namespace: str
    uid: str
    generation: int
    errors: tuple[str, ...]


def parse_localmodel(body: Any) -> LocalModel | Invalid:
    """From the API server's JSON. Never raises, whatever the body: the answer to what can't be read is Invalid."""
    body = body if isinstance(body, dict) else {}
    metadata = body.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    name, namespace, uid, created = (_text(metadata.get(k)) for k in ("name", "namespace", "uid", "creationTimestamp"))
    generation = metadata.get("generation")
    generation = generation if isinstance(generation, int) else 0
    try:
        spec = LocalModelSpec.model_validate(body.get("spec", {}))
    except ValidationError as error:
        return Invalid(name, namespace, uid, generation, _sentences(error))
    try:
        status = LocalModelStatus.model_validate(body.get("status", {}))
    except ValidationError:
        status = LocalModelStatus()
    return LocalModel(name, namespace, uid, generation, created, spec, status, "deletionTimestamp" in metadata)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _sentences(error: ValidationError) -> tuple[str, ...]:
    """Few and short, because they become the message of a condition."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)[:_MOST_ERRORS]
    paths = (".".join(("spec", *(str(part)[:_LONGEST_PART] for part in problem["loc"]))) for problem in problems)
    return tuple(f"{path}: {problem['msg'].removeprefix('Value error, ')}" for path, problem in zip(paths, problems, strict=True))

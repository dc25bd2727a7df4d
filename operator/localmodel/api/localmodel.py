"""The whole resource, and the one way from a raw body to it."""

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from localmodel.api.spec import LocalModelSpec
from localmodel.api.status import LocalModelStatus


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


def parse_localmodel(body: dict[str, Any]) -> LocalModel | Invalid:
    """From the API server's JSON. Never raises for a user's mistake: the answer is then Invalid."""
    metadata = body.get("metadata", {})
    name, namespace, uid = metadata.get("name", ""), metadata.get("namespace", ""), metadata.get("uid", "")
    generation = metadata.get("generation", 0)
    try:
        spec = LocalModelSpec.model_validate(body.get("spec", {}))
    except ValidationError as error:
        errors = tuple(f"spec.{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors())
        return Invalid(name, namespace, uid, generation, errors)
    try:
        status = LocalModelStatus.model_validate(body.get("status", {}))
    except ValidationError:
        status = LocalModelStatus()
    created, deleting = metadata.get("creationTimestamp", ""), "deletionTimestamp" in metadata
    return LocalModel(name, namespace, uid, generation, created, spec, status, deleting)

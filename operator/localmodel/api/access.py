"""Who may use the model, and how much of it: API keys and limits of the gateway.

Which keys there are stands in a Secret that only the pods read; whether it is there is a condition, decided in core.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from localmodel.api.rules import Rule, matches
from localmodel.api.values import ObjectName, SpecModel

_KEY_NAME = r"[A-Za-z0-9_-][A-Za-z0-9._-]*"
_KEY_NAME_HELP = "write the name of a key as it stands in the Secret (letters, digits, '-', '_' and '.'), such as team-a"
LimitedKey = Annotated[str, Field(max_length=63), matches(rf"\*|{_KEY_NAME}", f"{_KEY_NAME_HELP}, or '*' for every other key")]
AllowedName = Annotated[
    str,
    Field(max_length=128),
    matches(r"[A-Za-z0-9._:/-]+", "write one of the names that spec.model.servedNames has, such as qwen-7b"),
]


class SecretRef(SpecModel):
    """A Secret in the same namespace."""

    name: ObjectName = Field(description="Name of the Secret.")


class AuthSpec(SpecModel):
    """Who is let in."""

    mode: Literal["None", "APIKey"] = Field(
        "None", description="None: whoever reaches the Service. APIKey: whoever sends `authorization: Bearer KEY`."
    )
    secret_ref: SecretRef | None = Field(
        None,
        description="The Secret of the API keys: the name of each entry is a key's name, its value holds hashes of keys, one a "
        "line. `localmodel key create NAME` makes a key and its hash. Only the pods read it.",
    )


Auth = Annotated[
    AuthSpec,
    Rule(
        "self.mode != 'APIKey' || has(self.secretRef)",
        "write secretRef.name with mode APIKey: the Secret with the hashes that `localmodel key create` makes",
        lambda auth: auth.mode != "APIKey" or auth.secret_ref is not None,
        ".secretRef",
    ),
    Rule(
        "self.mode == 'APIKey' || !has(self.secretRef)",
        "write mode APIKey with secretRef, or leave secretRef out",
        lambda auth: auth.mode == "APIKey" or auth.secret_ref is None,
        ".mode",
    ),
]


class LimitsSpec(SpecModel):
    """What one key may use. Absent numbers are no limits. Each replica counts for itself."""

    key: LimitedKey = Field(
        description="Name of a key. `*`: every key without an entry of its own, each counted for itself; without keys, all "
        "callers together."
    )
    rpm: int | None = Field(None, ge=1, le=10_000_000, description="Requests in any minute, in each replica.")
    tpm: int | None = Field(
        None, ge=1, le=1_000_000_000, description="Tokens in any minute, prompt and answer together, in each replica."
    )
    max_concurrent: int | None = Field(None, ge=1, le=65536, description="Requests at once, in each replica.")
    models: tuple[AllowedName, ...] = Field(
        (),
        max_length=4,
        description="Served names that the key may use. Empty: all.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )


def _each_key_once(limits: tuple[LimitsSpec, ...]) -> tuple[LimitsSpec, ...]:
    """The API server knows it from the list's type."""
    keys = [each.key for each in limits]
    if len(set(keys)) != len(keys):
        raise ValueError("write one entry for each key")
    return limits


Limits = Annotated[
    tuple[LimitsSpec, ...],
    Field(
        max_length=64,
        description="Limits by key; at most 64.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["key"]},
    ),
    AfterValidator(_each_key_once),
]

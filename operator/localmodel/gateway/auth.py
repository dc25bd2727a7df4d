"""Who asks, what they may ask for, and how much: a key in the Authorization header, its models, its limits.

It keeps no text of a key. What a minute holds is decided in `limits`, which keys are good in `keys`.
"""

from collections.abc import Iterable, Mapping
from time import monotonic
from typing import Protocol

from localmodel.api.gateway import GatewaySettings, KeyLimits
from localmodel.gateway import errors, unfit
from localmodel.gateway.keys import Keyring, describe_problems
from localmodel.gateway.limits import Account, Allowance, Grant, Refusal
from localmodel.gateway.record import Record

ANY = "*"
_NOT_SERVED = frozenset({"shed", "drained", "queue_timeout"})
"""Outcomes for a reason of ours: such a request is not charged."""


class HasRing(Protocol):
    """Where the present keys are."""

    @property
    def ring(self) -> Keyring: ...


class Caller:
    """One request's view of its caller: which models, and what is left."""

    def __init__(self, key: str | None = None, models: tuple[str, ...] = (), account: Account | None = None) -> None:
        self.key = key
        """The key's name; None without keys."""
        self._models = models
        self._account = account
        self._grant: Grant | None = None

    def visible(self, served: tuple[str, ...]) -> tuple[str, ...]:
        """Of these names, those that the caller may use. Raises 403 if there are none."""
        names = tuple(name for name in served if not self._models or name in self._models)
        if not names:
            raise errors.model_not_allowed(self._models)
        return names

    def check_model(self, name: str) -> None:
        """Raises 403."""
        self.visible((name,))

    def judge(self, error: errors.ApiError) -> errors.ApiError:
        """What the caller hears instead: with a list of names, a name outside it is forbidden, whether it is served or not."""
        return errors.model_not_allowed(self._models) if self._models and error.code == "model_not_found" else error

    def reserve(self, tokens: int) -> dict[str, str]:
        """Takes one request of at most so many tokens from what is left; returns headers. Raises 429."""
        if self._account is None:
            return {}
        now = monotonic()
        verdict = self._account.admit(now, tokens)
        headers = self._account.headers(now)
        if isinstance(verdict, Refusal):
            raise _refuse(verdict, tokens, headers)
        self._grant = verdict
        return headers

    def settle(self, record: Record) -> None:
        """The request has ended: what it did not use is free again."""
        if self._account is None or self._grant is None:
            return
        if record.outcome in _NOT_SERVED:
            self._account.void(self._grant, monotonic())
            return
        # The tokens of an answer of /v2 pass through unread: what was reserved is what it costs.
        used = self._grant.tokens if record.endpoint == "v2" else (record.prompt_tokens or 0) + record.completion_tokens
        self._account.settle(self._grant, monotonic(), used)


class Door:
    """Lets callers in. `ring` is asked each time, because keys come and go."""

    def __init__(self, settings: GatewaySettings, keys: HasRing | None) -> None:
        self._keys = keys
        self._limits = {limits.key: limits for limits in settings.limits}
        self._served = settings.served_names
        self._accounts: dict[str, Account] = {}

    def admit(self, headers: Mapping[str, str]) -> Caller:
        """Raises 401."""
        if self._keys is None:
            return self._caller(None)
        presented = _bearer(headers.get("authorization", ""))
        name = self._keys.ring.find(presented) if presented else None
        if name is None:
            raise errors.invalid_api_key(presented=bool(presented))
        return self._caller(name)

    def _caller(self, name: str | None) -> Caller:
        limits = self._limits.get(name or ANY) or self._limits.get(ANY)
        if limits is None:
            return Caller(name)
        return Caller(name, limits.models, self._account(name or ANY, limits))

    def _account(self, owner: str, limits: KeyLimits) -> Account:
        """Each key has its own, those under '*' too; without keys all callers share one."""
        if owner not in self._accounts:
            self._accounts[owner] = Account(Allowance(limits.rpm, limits.tpm, limits.max_concurrent))
        return self._accounts[owner]

    @property
    def missing(self) -> tuple[str, str] | None:
        """Why nobody can be let in: a PascalCase reason and a sentence."""
        if self._keys is None or self._keys.ring.digests:
            return None
        if problems := self._keys.ring.problems:
            return "KeysInvalid", f"No API key can be used. {describe_problems(problems)}"
        return "KeysMissing", "There is no API key, so every request would be refused. `localmodel key create NAME` makes one."

    @property
    def problem(self) -> str:
        """What is wrong with some keys or limits while others work; empty if nothing is."""
        if self._keys is None:
            return describe_problems(tuple(self._wrong_models()))
        ring = self._keys.ring
        absent = sorted(set(self._limits) - ring.names - {ANY}) if ring.digests else []
        unknown = [f"limits name the key '{name}', but there is no such key: add it, or remove the limits." for name in absent]
        return describe_problems((*ring.problems, *unknown, *self._wrong_models()))

    def _wrong_models(self) -> Iterable[str]:
        for key, limits in self._limits.items():
            for name in limits.models:
                if name not in self._served:
                    yield f"The limits of '{key}' allow the model '{name}', which is not served: use {', '.join(self._served)}."


def _bearer(header: str) -> str:
    """The key in `Bearer KEY`; empty if it is something else or nothing."""
    scheme, _, value = header.strip().partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def _refuse(refusal: Refusal, tokens: int, headers: dict[str, str]) -> errors.ApiError:
    if refusal.kind == "concurrency":
        return errors.key_busy(refusal.limit, headers)
    if refusal.retry_after is None:
        return unfit.above_limit(tokens, refusal.limit, headers)
    return errors.rate_limited(refusal.kind, refusal.limit, refusal.retry_after, headers)

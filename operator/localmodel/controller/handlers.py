"""Kopf's part: watching. An event goes into the store and wakes the keys that it is news for; nothing else happens here.

Only `on.event` and the activities (login, startup, cleanup, probe) are used: everything else of kopf writes annotations,
finalizers or patches, and its `index` is quadratic (listing.py). All are coroutines: kopf moves functions into threads.
"""

from collections.abc import Callable
from typing import Any

import kopf

from localmodel.controller.listing import SELECTORS
from localmodel.controller.store import Key, Store
from localmodel.core.kinds import POD, Kind

_CHUNK = 500
_WORKERS = 16
"""Objects that kopf works on at once. Without a limit thousands of its tasks fill one turn of the loop, and a lease is lost."""
_WATCH_SECONDS = 290


def build_kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.watching.chunk_size = _CHUNK
    settings.watching.server_timeout = _WATCH_SECONDS
    settings.watching.connect_timeout = 10
    settings.networking.error_backoffs = (0.2, 0.5, 1, 2, 3, 5, 5, 5)
    settings.networking.request_timeout = 30
    settings.process.ultimate_exiting_timeout = 20
    settings.queueing.exit_timeout = 0.5
    settings.queueing.worker_limit = _WORKERS
    settings.queueing.idle_timeout = 0.01
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.persistence.progress_storage = _NoProgress()
    for kind, selector in SELECTORS.items():
        if selector:
            settings.watching.label_selectors[kind.group, kind.version, kind.plural] = selector
    return settings


def register(
    registry: kopf.OperatorRegistry,
    store: Store,
    *,
    wake: Callable[[Key], None],
    look: Callable[[Key, str], None],
    seen: Callable[[str], None],
) -> None:
    """For every watched kind: `wake` the models that an event concerns, `look` at a pod that changed, tell the watchdog."""
    kopf.on.login(id="login", registry=registry)(_login)
    for kind in SELECTORS:
        _register_kind(registry, store, kind, wake, look, seen)


async def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)


def _register_kind(
    registry: kopf.OperatorRegistry,
    store: Store,
    kind: Kind,
    wake: Callable[[Key], None],
    look: Callable[[Key, str], None],
    seen: Callable[[str], None],
) -> None:
    @kopf.on.event(kind.group, kind.version, kind.plural, id=kind.plural, registry=registry)  # type: ignore[untyped-decorator]
    async def pass_on(event: kopf.RawEvent, **_: Any) -> None:
        seen(kind.plural)
        body: Any = event["object"]
        deleted = event["type"] == "DELETED"
        for key in store.remove(kind.name, body) if deleted else store.put(kind.name, body):
            wake(key)
            if kind is POD:
                look(key, body["metadata"]["name"])


class _NoDiffBase(kopf.DiffBaseStorage):  # type: ignore[misc]
    """Kopf remembers objects to find changes: two copies of each event's object, of which we use nothing."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        pass


class _NoProgress(kopf.ProgressStorage):  # type: ignore[misc]
    """And how far its own handlers came; ours have no progress."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        pass

    def purge(self, **_: Any) -> None:
        pass

    def touch(self, **_: Any) -> None:
        pass

    def clear(self, *, essence: Any) -> Any:
        return essence

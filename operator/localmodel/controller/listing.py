"""Our own lists: one before the first decision, and one in every resync for what the watches missed.

Kopf says nothing of an object that was deleted while a watch was broken: it lists again, and what is missing from the
new list is missing. And its way to hold handlers back until everything is listed wakes every waiting object at every
listed one: 5,600 objects took a minute. So kopf's `index` is not used, and nothing is decided before `list_all` is done.
"""

import asyncio
import logging
from collections.abc import Callable

from localmodel.controller.cluster import Cluster
from localmodel.controller.connection import ApiError
from localmodel.controller.store import Key, Store
from localmodel.core.kinds import CHILD_KINDS, LOCAL_MODEL, POD, VOLUME_CLAIM, Kind
from localmodel.core.labels import CHILD_SELECTOR

logger = logging.getLogger(__name__)
SELECTORS = {LOCAL_MODEL: "", **dict.fromkeys(CHILD_KINDS, CHILD_SELECTOR), POD: CHILD_SELECTOR, VOLUME_CLAIM: ""}
"""What is watched, and which part of it."""
_RETRY_SECONDS = 1.0


async def list_all(store: Store, cluster: Cluster, namespaces: tuple[str, ...]) -> set[Key]:
    """Brings the store up to what the API server has now. Keys of the models that this is news for. Raises ApiError."""
    touched: set[Key] = set()
    for kind, selector in SELECTORS.items():
        for namespace in namespaces or ("",):
            touched |= await _list(store, cluster, kind, namespace, selector)
    return touched


async def list_first(store: Store, cluster: Cluster, namespaces: tuple[str, ...]) -> None:
    """Until it succeeds."""
    while True:
        try:
            await list_all(store, cluster, namespaces)
            return
        except ApiError as error:
            logger.warning("the first list failed", extra={"error": error.message})
            await asyncio.sleep(_RETRY_SECONDS)


async def list_for_ever(
    store: Store, cluster: Cluster, namespaces: tuple[str, ...], *, pause_seconds: float, on_change: Callable[[Key], None]
) -> None:
    """Until cancelled."""
    while True:
        await asyncio.sleep(pause_seconds)
        try:
            touched = await list_all(store, cluster, namespaces)
        except ApiError as error:
            logger.warning("a list failed", extra={"error": error.message})
            continue
        for key in touched:
            logger.warning("the watches had missed a change", extra={"namespace": key[0], "localmodel": key[1]})
            on_change(key)


async def _list(store: Store, cluster: Cluster, kind: Kind, namespace: str, selector: str) -> set[Key]:
    touched: set[Key] = set()
    names: set[Key] = set()
    version = 0
    async for page, listed in cluster.list_pages(kind, namespace, selector):
        version = listed
        for body in page:
            names.add((body["metadata"]["namespace"], body["metadata"]["name"]))
            touched |= store.put(kind.name, {"apiVersion": kind.api_version, "kind": kind.name, **body})
    for id_, known in store.versions(kind.name).items():
        if id_ not in names and known <= version and (not namespace or id_[0] == namespace):
            touched |= store.remove_unseen(kind.name, id_, version)
    return touched

"""The slow second look: lists what exists by name only and drops from the store what is gone.

A deletion that happened while a watch was broken is reported by nobody: kopf lists again, but says nothing of what is
missing from the new list.
"""

import asyncio
import logging
from collections.abc import Callable

from localmodel.controller.cluster import ApiError, Cluster
from localmodel.controller.store import Key, Store
from localmodel.core.kinds import CHILD_KINDS, LOCAL_MODEL, POD, VOLUME_CLAIM
from localmodel.core.labels import CHILD_SELECTOR

logger = logging.getLogger(__name__)
SELECTORS = {LOCAL_MODEL: "", **dict.fromkeys(CHILD_KINDS, CHILD_SELECTOR), POD: CHILD_SELECTOR, VOLUME_CLAIM: ""}
"""What is watched, and which part of it."""


async def run_audit(
    store: Store, cluster: Cluster, namespaces: tuple[str, ...], *, pause_seconds: float, on_change: Callable[[Key], None]
) -> None:
    """Until cancelled."""
    while True:
        await asyncio.sleep(pause_seconds)
        for kind, selector in SELECTORS.items():
            for namespace in namespaces or ("",):
                try:
                    names, version = await cluster.list_names(kind, namespace, selector)
                except ApiError as error:
                    logger.warning("audit failed", extra={"resource": kind.plural, "error": error.message})
                    continue
                gone = [
                    id_
                    for id_, known in store.versions(kind.name).items()
                    if id_ not in names and known <= version and (not namespace or id_[0] == namespace)
                ]
                for id_ in gone:
                    logger.warning("a deletion was missed", extra={"resource": kind.plural, "object": id_})
                    for key in store.remove_unseen(kind.name, id_, version):
                        on_change(key)

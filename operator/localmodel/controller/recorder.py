"""Kubernetes Events for `kubectl describe`: on transitions only, repeated ones as a series of one Event.

Best effort and never in the way: what can't be posted is logged and forgotten.
"""

import asyncio
import datetime
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from localmodel.api import constants
from localmodel.api.localmodel import LocalModel
from localmodel.controller.cluster import Cluster, NotLeader
from localmodel.controller.connection import ApiError
from localmodel.core.drift import digest
from localmodel.core.transitions import EventNote

logger = logging.getLogger(__name__)
_LONGEST_NOTE = 1024
_REMEMBERED = 10_000
_WAITING = 1_000


class Recorder:
    def __init__(self, cluster: Cluster, *, replica: str, wall_clock: Callable[[], datetime.datetime]) -> None:
        self._cluster, self._replica, self._wall_clock = cluster, replica, wall_clock
        self._queue: asyncio.Queue[tuple[LocalModel, EventNote]] = asyncio.Queue(_WAITING)
        self._counts: OrderedDict[tuple[str, str], int] = OrderedDict()

    def record(self, model: LocalModel, note: EventNote) -> None:
        try:
            self._queue.put_nowait((model, note))
        except asyncio.QueueFull:
            logger.warning("event dropped", extra={"localmodel": model.name, "reason": note.reason})

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            model, note = await self._queue.get()
            try:
                await self._post(model, note)
            except (ApiError, NotLeader) as error:
                logger.warning("event not posted", extra={"localmodel": model.name, "reason": note.reason, "error": str(error)})

    async def _post(self, model: LocalModel, note: EventNote) -> None:
        now = self._wall_clock().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        name = f"{model.name}.{digest([model.uid, note.type, note.reason, note.message])}"
        count = self._count(model.namespace, name)
        if count > 1:
            try:
                return await self._repeat(model.namespace, name, count, now)
            except ApiError as error:
                if error.status != 404:
                    raise
                self._counts[(model.namespace, name)] = 1  # the API server keeps an Event for an hour
        try:
            await self._cluster.create_event(self._build(model, note, name, now))
        except ApiError as error:
            if error.status != 409:
                raise
            await self._repeat(model.namespace, name, self._count(model.namespace, name), now)
        return None

    def _count(self, namespace: str, name: str) -> int:
        """How often it came, this time included."""
        count = self._counts.pop((namespace, name), 0) + 1
        self._counts[(namespace, name)] = count
        while len(self._counts) > _REMEMBERED:
            self._counts.popitem(last=False)
        return count

    async def _repeat(self, namespace: str, name: str, count: int, now: str) -> None:
        await self._cluster.patch_event(namespace, name, {"series": {"count": count, "lastObservedTime": now}})

    def _build(self, model: LocalModel, note: EventNote, name: str, now: str) -> dict[str, Any]:
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": model.namespace},
            "eventTime": now,
            "reportingController": f"{constants.GROUP}/operator",
            "reportingInstance": self._replica[:128],
            "action": "Reconcile",
            "type": note.type,
            "reason": note.reason,
            "note": note.message.encode()[:_LONGEST_NOTE].decode(errors="ignore") or note.reason,
            "regarding": {
                "apiVersion": constants.API_VERSION,
                "kind": constants.KIND,
                "name": model.name,
                "namespace": model.namespace,
                "uid": model.uid,
            },
        }

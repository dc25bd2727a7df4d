"""The operator's process: reads the settings, puts the parts together, and ends them in the right order."""

import argparse
import asyncio
import datetime
import logging
import sys
import time
from pathlib import Path
from typing import Any

import kopf
import uvloop
import yaml
from pydantic import ValidationError

from localmodel.controller.cluster import Cluster
from localmodel.controller.connection import KubernetesConnection, wait_for_resource
from localmodel.controller.handlers import build_kopf_settings, register
from localmodel.controller.lease import Elector
from localmodel.controller.listing import list_first, list_for_ever
from localmodel.controller.logs import configure_logs
from localmodel.controller.metrics import OperatorMetrics, Sources
from localmodel.controller.prober import Prober
from localmodel.controller.reconciler import Reconciler
from localmodel.controller.recorder import Recorder
from localmodel.controller.settings import OperatorSettings, load_settings
from localmodel.controller.store import Key, Store
from localmodel.controller.workqueue import KeyQueue, WorkQueue

logger = logging.getLogger(__name__)
_FRESH_SECONDS = 5.0


class Operator:
    """All parts of one running operator."""

    def __init__(self, settings: OperatorSettings, connection: KubernetesConnection) -> None:
        self._settings, self._connection = settings, connection
        self._store, self._metrics = Store(), OperatorMetrics()
        self.elector = Elector(
            connection,
            settings.lease,
            namespace=settings.namespace,
            replica=settings.replica,
            on_elected=self._take_over,
        )
        self._cluster = Cluster(
            connection,
            may_write_for=self.elector.may_write_for,
            count_write=self._metrics.count_write,
            request_timeout_seconds=settings.request_timeout_seconds,
        )
        self._prober = Prober(self._store, settings.prober, on_change=self._wake, is_leader=self.is_leader)
        self._recorder = Recorder(self._cluster, replica=settings.replica, wall_clock=_now)
        reconciler = Reconciler(
            self._store,
            self._cluster,
            self._prober,
            self._recorder,
            self._metrics,
            settings.options(),
            is_leader=self.is_leader,
            resync_seconds=settings.resync_seconds,
            wall_clock=_now,
        )
        queue = KeyQueue[Key](
            backoff_base_seconds=settings.queue.backoff_base_seconds,
            backoff_limit_seconds=settings.queue.backoff_limit_seconds,
        )
        self._queue = WorkQueue(reconciler.reconcile, queue, workers=settings.queue.workers)
        self._seen: dict[str, float] = {}
        self._listed_at = 0.0
        self._caught_up_in_term = 0
        self._catching_up: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Until SIGTERM."""
        await wait_for_resource(self._connection)
        await self._list()
        registry, server = kopf.OperatorRegistry(), self._settings.server
        register(registry, self._store, wake=self._wake, look=self._prober.look, seen=self._note_event)
        kopf.on.startup(id="start", registry=registry)(self._start)
        kopf.on.cleanup(id="stop", registry=registry)(self._stop)
        kopf.on.probe(id="leader", registry=registry)(self._probe)
        namespaces = self._settings.watch_namespaces
        try:
            await kopf.operator(
                registry=registry,
                settings=build_kopf_settings(),
                standalone=True,
                identity=self._settings.replica,  # kopf's own guess needs a passwd entry
                clusterwide=not namespaces,
                namespaces=list(namespaces),
                liveness_endpoint=f"http://{server.probe_host}:{server.probe_port}/healthz",
            )
        finally:
            await self._connection.close()

    async def _start(self, **_: Any) -> None:
        settings, server = self._settings, self._settings.server
        self._metrics.attach(
            Sources(
                bodies=lambda: (body for key in self._store.model_keys() if (body := self._store.model(key))),
                queue_depth=lambda: self._queue.depth,
                queue_age_seconds=lambda: self._queue.age_seconds,
                is_leader=self.is_leader,
                watch_ages=lambda: {name: time.monotonic() - moment for name, moment in list(self._seen.items())},
            )
        )
        await self._metrics.serve(server.metrics_host, server.metrics_port)
        lists = list_for_ever(
            self._store, self._cluster, settings.watch_namespaces, pause_seconds=settings.resync_seconds, on_change=self._wake
        )
        parts = (self._prober.run(), self._queue.run(), self._recorder.run(), self.elector.run(), lists)
        self._tasks = [asyncio.create_task(part) for part in parts]
        for task in self._tasks:
            task.add_done_callback(_end_process_if_failed)

    async def _stop(self, **_: Any) -> None:
        """The workers first: nothing may be written once the lease is given away."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.elector.release()

    async def _probe(self, **_: Any) -> dict[str, Any]:
        return {"leader": self.is_leader(), "queueDepth": self._queue.depth}

    def is_leader(self) -> bool:
        """And knows what it needs for it."""
        return self.elector.may_write_for() > 0 and self._caught_up_in_term == self.elector.term

    def _take_over(self) -> None:
        if self._catching_up:
            self._catching_up.cancel()  # of an earlier term: ending later, it would say that this one knows nothing
        self._catching_up = asyncio.create_task(self._catch_up(self.elector.term))
        self._catching_up.add_done_callback(_end_process_if_broken)

    async def _catch_up(self, term: int) -> None:
        """What was seen while the way to the API server was cut may be old: look again before deciding anything."""
        if time.monotonic() - self._listed_at > _FRESH_SECONDS:
            await self._list()
        self._caught_up_in_term = term
        for key in self._store.model_keys():
            self._wake(key)
        for key, pod in self._store.all_pods():
            self._prober.look(key, pod.name)

    async def _list(self) -> None:
        await list_first(self._store, self._cluster, self._settings.watch_namespaces)
        self._listed_at = time.monotonic()

    def _wake(self, key: Key) -> None:
        self._queue.add(key)

    def _note_event(self, resource: str) -> None:
        self._seen[resource] = time.monotonic()


def _end_process_if_failed(task: asyncio.Task[None]) -> None:
    """A part that ended by itself is a fault; the kubelet starts a whole operator again."""
    if not task.cancelled():
        logger.critical("a part of the operator ended", exc_info=task.exception())
        sys.exit(1)


def _end_process_if_broken(task: asyncio.Task[None]) -> None:
    """Of a part that may end. Without it this replica would hold the lease and decide nothing."""
    if not task.cancelled() and task.exception():
        _end_process_if_failed(task)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


async def _run(settings: OperatorSettings) -> None:
    await Operator(settings, await KubernetesConnection.open()).run()


def main() -> int:
    parser = argparse.ArgumentParser(prog="localmodel-operator", description=__doc__)
    parser.add_argument("--settings", type=Path, help="YAML file with the operator's settings")
    try:
        settings = load_settings(parser.parse_args().settings)
    except (ValidationError, OSError, yaml.YAMLError) as error:
        print(error, file=sys.stderr)
        return 2
    configure_logs(settings.log_level)
    uvloop.run(_run(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())

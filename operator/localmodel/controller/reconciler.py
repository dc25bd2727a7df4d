"""reconcile(key): observe, plan, apply, derive the status, report. The single entry point, whatever woke it.

It decides nothing: plan and status come from core, and a user's mistake is a condition there, never an exception here.
"""

import asyncio
import datetime
import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from localmodel.api.localmodel import Invalid, LocalModel, parse_localmodel
from localmodel.api.status import LocalModelStatus
from localmodel.controller.cluster import Cluster, NotLeader
from localmodel.controller.connection import ApiError
from localmodel.controller.metrics import OperatorMetrics
from localmodel.controller.prober import Prober
from localmodel.controller.recorder import Recorder
from localmodel.controller.store import Key, Store
from localmodel.controller.workqueue import Failed
from localmodel.core.drift import find_drift
from localmodel.core.kinds import DEPLOYMENT, KINDS, LOCAL_MODEL
from localmodel.core.names import served_names
from localmodel.core.observe import ChildKey, Observed
from localmodel.core.options import Options
from localmodel.core.plan import Plan, plan
from localmodel.core.status import derive_invalid_status, derive_status
from localmodel.core.transitions import EventNote, derive_events

logger = logging.getLogger(__name__)
_REFUSALS = {400, 403, 422}
"""Answers that the user has to do something about; the rest is for trying again."""
_CONFLICT_RETRY_SECONDS = 10.0
"""A name that is taken becomes free without an event that we could see."""


class Reconciler:
    def __init__(
        self,
        store: Store,
        cluster: Cluster,
        prober: Prober,
        recorder: Recorder,
        metrics: OperatorMetrics,
        options: Options,
        *,
        is_leader: Callable[[], bool],
        resync_seconds: float,
        wall_clock: Callable[[], datetime.datetime],
    ) -> None:
        self._store, self._cluster, self._prober, self._recorder = store, cluster, prober, recorder
        self._metrics, self._options, self._is_leader = metrics, options, is_leader
        self._resync_seconds, self._wall_clock = resync_seconds, wall_clock

    async def reconcile(self, key: Key) -> float | None:
        """Seconds until the next look, or None. Raises Failed to come back after the back-off."""
        if not self._is_leader():
            return None
        began, result = asyncio.get_running_loop().time(), "error"
        try:
            pause = await self._reconcile(key)
            result = "ok"
            return pause
        except NotLeader:
            result = "not_leader"
            return None
        except ApiError as error:
            raise Failed(f"{error.status}: {error.message}", error.retry_after) from error
        finally:
            self._metrics.observe_reconcile(result, asyncio.get_running_loop().time() - began)

    async def _reconcile(self, key: Key) -> float | None:
        body = self._store.model(key)
        if body is None:
            return None
        model = parse_localmodel(body)
        if isinstance(model, Invalid):
            await self._report_invalid(model, body)
            return self._resync()
        if model.deleting:
            return None
        observed = await self._observe(key, model)
        planned = plan(model, self._options, observed)
        taken = await self._find_taken(model, planned, observed)
        if taken:
            observed = replace(observed, children={**observed.children, **taken})
            planned = plan(model, self._options, observed)
        observed = await self._execute(key, model, planned, observed)
        status = derive_status(model, planned, observed, model.status, self._now())
        await self._write_status(model, status)
        if observed.refused:
            raise Failed(observed.refused)
        return _CONFLICT_RETRY_SECONDS if planned.refusal else self._resync()

    async def _observe(self, key: Key, model: LocalModel) -> Observed:
        pods = self._store.pods(key)
        reports = await self._prober.reports(key, pods)
        pvc = model.spec.model.source.pvc
        found = pvc is not None and self._store.has_claim(model.namespace, pvc.claim_name)
        return Observed(
            children=self._store.children(key),
            pods=self._store.pods(key),
            gateways=reports,
            claim="NotNeeded" if pvc is None else "Found" if found else "Missing",
            rivals=self._store.rivals(key, served_names(model)),
        )

    async def _find_taken(self, model: LocalModel, planned: Plan, observed: Observed) -> dict[ChildKey, dict[str, Any]]:
        """Before the first write under a name: is it taken by something that our watches, which see our label only, can't see?"""
        ids = [(each["kind"], each["metadata"]["name"]) for each in planned.apply]
        absent = [id_ for id_ in ids if id_ not in observed.children]
        found = await asyncio.gather(*(self._cluster.find(KINDS[kind], model.namespace, name) for kind, name in absent))
        return {id_: body for id_, body in zip(absent, found, strict=True) if body is not None}

    async def _execute(self, key: Key, model: LocalModel, planned: Plan, observed: Observed) -> Observed:
        """What was applied becomes part of what is observed. The Deployment comes last: its pods need all the others."""
        children = dict(observed.children)
        first = [each for each in planned.apply if each["kind"] != DEPLOYMENT.name]
        last = [each for each in planned.apply if each["kind"] == DEPLOYMENT.name]
        try:
            for group in (first, last):
                await self._apply(model, group, children)
            for each in planned.prune:
                await self._cluster.delete(KINDS[each.kind], model.namespace, each.name, each.uid)
        except ApiError as error:
            if not _is_refusal(error):
                raise
            return replace(observed, children=children, refused=error.message)
        return replace(observed, children=children)

    async def _apply(self, model: LocalModel, group: Iterable[dict[str, Any]], children: dict[tuple[str, str], Any]) -> None:
        due = []
        for desired in group:
            id_ = (desired["kind"], desired["metadata"]["name"])
            why = find_drift(desired, children.get(id_))
            if why is None:
                continue
            logger.info("apply", extra={"namespace": model.namespace, "localmodel": model.name, "object": id_, "why": why})
            due.append((id_, desired, why))
        results = await asyncio.gather(*(self._cluster.apply(desired) for _, desired, _ in due), return_exceptions=True)
        for (id_, desired, why), result in zip(due, results, strict=True):
            if not isinstance(result, BaseException):
                self._store.put(id_[0], result)
                children[id_] = result
                if left := find_drift(desired, result):
                    logger.warning("changed again while it was applied", extra={"object": id_, "why": left})
                elif why.startswith("."):
                    what = f"{id_[0]} {id_[1]} was changed by somebody else at {why[1:]}"
                    message = f"{what}; it is set back to what the spec wants."
                    self._recorder.record(model, EventNote("Warning", "DriftRepaired", message))
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _report_invalid(self, invalid: Invalid, body: dict[str, Any]) -> None:
        model = parse_localmodel({**body, "spec": _ANY_SPEC})
        assert isinstance(model, LocalModel)
        await self._write_status(model, derive_invalid_status(invalid, model.status, self._now()))

    async def _write_status(self, model: LocalModel, status: LocalModelStatus) -> None:
        if status == model.status:
            return
        answer = await self._cluster.apply_status(model.namespace, model.name, model.uid, _dump(status))
        self._store.put(LOCAL_MODEL.name, answer)
        for note in derive_events(model.status, status):
            self._recorder.record(model, note)

    def _resync(self) -> float:
        return self._resync_seconds * random.uniform(0.8, 1.2)

    def _now(self) -> str:
        return self._wall_clock().strftime("%Y-%m-%dT%H:%M:%SZ")


_ANY_SPEC = {"model": {"source": {"hostPath": {"path": "/"}}}}


def _dump(status: LocalModelStatus) -> dict[str, Any]:
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def _is_refusal(error: ApiError) -> bool:
    """A webhook that is away stays so until somebody looks; a namespace that ends needs nobody."""
    if error.status == 500:
        return "failed calling webhook" in error.message
    return error.status in _REFUSALS and "because it is being terminated" not in error.message

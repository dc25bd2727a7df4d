"""Asks each pod's gateway what it and its Triton say, and wakes the model's key when the answer means something new.

A gateway that fails once is asked again before it counts as silent, so that one lost packet changes no status.
"""

import asyncio
import logging
from collections.abc import Callable

import aiohttp
from pydantic import ValidationError

from localmodel.api import constants
from localmodel.api.gateway import GatewayStatus
from localmodel.controller.settings import ProberSettings
from localmodel.controller.store import Key, Store
from localmodel.controller.workqueue import KeyQueue, WorkQueue
from localmodel.core.observe import Pod, report_signature

logger = logging.getLogger(__name__)
Target = tuple[Key, str]
"""The model's key and the pod's name."""
_FAILURES_UNTIL_SILENT = 2
_CONCURRENCY = 32
_LARGEST_REPORT = 1 << 20


class Prober:
    def __init__(
        self, store: Store, settings: ProberSettings, *, on_change: Callable[[Key], None], is_leader: Callable[[], bool]
    ) -> None:
        self._store, self._settings, self._on_change, self._is_leader = store, settings, on_change, is_leader
        self._reports: dict[Target, GatewayStatus | None] = {}
        self._failures: dict[Target, int] = {}
        self._queue = WorkQueue(self._probe, KeyQueue[Target](), workers=_CONCURRENCY)
        self._session: aiohttp.ClientSession | None = None

    async def run(self) -> None:
        """Until cancelled."""
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._settings.timeout_seconds), trust_env=False
        ) as self._session:
            await self._queue.run()

    def look(self, key: Key, pod_name: str) -> None:
        """Something happened to this pod: ask it soon."""
        self._queue.add((key, pod_name))

    async def reports(self, key: Key, pods: tuple[Pod, ...]) -> dict[str, GatewayStatus | None]:
        """The last answers by pod. Pods that were never asked are asked now: nobody may be judged unheard."""
        unheard = [pod for pod in pods if _can_answer(pod) and (key, pod.name) not in self._reports]
        await asyncio.gather(*(self._ask_until_sure(key, pod) for pod in unheard))
        return {pod.name: self._reports[(key, pod.name)] for pod in pods if (key, pod.name) in self._reports}

    async def _ask_until_sure(self, key: Key, pod: Pod) -> None:
        for _ in range(_FAILURES_UNTIL_SILENT):
            if self._note((key, pod.name), await self._ask(pod)):
                break
        self._queue.add_after((key, pod.name), self._settings.unsettled_seconds)

    async def _probe(self, target: Target) -> float | None:
        key, name = target
        pod = self._store.pod(key, name)
        if pod is None or not _can_answer(pod) or not self._is_leader():
            self._reports.pop(target, None)  # who leads later asks again, instead of believing what was so in an earlier term
            self._failures.pop(target, None)
            return None
        before = report_signature(self._reports.get(target))
        known = target in self._reports
        if self._note(target, await self._ask(pod)) and (not known or report_signature(self._reports.get(target)) != before):
            self._on_change(key)
        report = self._reports.get(target)
        settled = report and report.ready and pod.ready and target not in self._failures
        return self._settled_pause() if settled else self._settings.unsettled_seconds

    def _settled_pause(self) -> float:
        """Longer with many pods, so that asking never costs more than a set rate."""
        return max(self._settings.settled_seconds, len(self._reports) / self._settings.settled_per_second)

    def _note(self, target: Target, report: GatewayStatus | None) -> bool:
        """True if it is certain: an answer, or silence more than once."""
        if report is None:
            self._failures[target] = self._failures.get(target, 0) + 1
            if self._failures[target] < _FAILURES_UNTIL_SILENT:
                return False
        else:
            self._failures.pop(target, None)
        self._reports[target] = report
        return True

    async def _ask(self, pod: Pod) -> GatewayStatus | None:
        """None for everything but an answer of this very pod's gateway: an address may have got another owner."""
        assert self._session is not None
        host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
        try:
            async with self._session.get(f"http://{host}:{constants.ADMIN_PORT}/status") as response:
                body = await _read(response.content)
                report = GatewayStatus.model_validate_json(body) if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, OSError, ValidationError) as error:
            logger.debug("gateway does not answer", extra={"pod": pod.name, "error": str(error)})
            return None
        return report if report and report.pod == pod.name else None


async def _read(content: aiohttp.StreamReader) -> bytes:
    """All of it, however many pieces it comes in; nothing if that is more than a report can be."""
    body = bytearray()
    async for piece in content.iter_any():
        body += piece
        if len(body) > _LARGEST_REPORT:
            return b""
    return bytes(body)


def _can_answer(pod: Pod) -> bool:
    return bool(pod.ip) and pod.live

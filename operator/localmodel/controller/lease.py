"""Leader election with a Lease. Who does not hold it, or could not renew it in time, may not write: `may_write_for()` says so.

Two clocks: the holder counts from before it sent the renewal, everybody else from when they saw it. So the holder stops
before another one starts, whatever the wall clocks say; a clock that jumps causes no change of leader.
"""

import asyncio
import datetime
import logging
import time
import uuid
from collections.abc import Callable
from typing import Any

from localmodel.controller.connection import ApiError, Connection
from localmodel.controller.settings import LeaseSettings
from localmodel.core.kinds import Kind
from localmodel.core.permissions import is_permitted

logger = logging.getLogger(__name__)
LEASE = Kind("Lease", "coordination.k8s.io", "v1", "leases")
_DELETED = {"spec": {"holderIdentity": "whoever held it"}}
"""In place of a lease that was there and is not any more. It counts as held for its time: its holder may not know yet."""


class Elector:
    def __init__(
        self,
        connection: Connection,
        settings: LeaseSettings,
        *,
        namespace: str,
        replica: str,
        on_elected: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
    ) -> None:
        self._connection, self._settings, self._namespace = connection, settings, namespace
        self._on_elected, self._monotonic, self._wall_clock = on_elected, monotonic, wall_clock
        self.identity = f"{replica}_{uuid.uuid4().hex[:8]}"
        """Of this process: a restarted one is another holder, because it does not know what the first one still does."""
        self.term = 0
        """How often this process was elected."""
        self._lease: dict[str, Any] | None = None
        self._seen_at = 0.0
        self._held_until = 0.0
        self._leads = False
        """As it was last said in the log."""

    def may_write_for(self) -> float:
        """Seconds for which nobody else can hold the lease; 0 without it."""
        return max(0.0, self._held_until - self._monotonic())

    async def run(self) -> None:
        """Until cancelled: gets the lease, keeps it, gets it back."""
        pause = self._settings.retry_seconds
        renew = self._settings.renew_deadline_seconds / 3
        while True:
            await self.attempt()
            await asyncio.sleep(max(renew, pause) if self.may_write_for() > 0 else pause)

    async def attempt(self) -> None:
        """One try to get or to renew. A failure to reach the API server changes nothing but the time that is left."""
        self._tell_loss()
        try:
            if self._lease is None or self.may_write_for() <= 0:
                self._see(await self._get())
            if self._lease is None or self._is_mine() or self._is_over():
                await self._take()
        except ApiError as error:
            if error.status in (404, 409):
                self._held_until = 0.0
            logger.debug("lease", extra={"error": error.message})
        self._tell_loss()

    def _tell_loss(self) -> None:
        """Also of one that is got back at once: an operator that is too slow to renew in time does nothing meanwhile."""
        if self._leads and self.may_write_for() <= 0:
            self._leads = False
            allowed = self._settings.renew_deadline_seconds
            logger.warning(f"lost the lease: not renewed within {allowed:g} seconds", extra={"identity": self.identity})

    async def release(self) -> None:
        """On a clean exit: the next one need not wait. Nothing may be written afterwards."""
        if self.may_write_for() <= 0 or self._lease is None:
            return
        self._held_until, self._leads = 0.0, False
        spec = {**self._lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            await self._send("update", "PUT", {**self._lease, "spec": spec})
        except ApiError as error:
            logger.warning("could not release the lease", extra={"error": error.message})

    def _see(self, lease: dict[str, Any] | None) -> None:
        if lease is None and self._lease is not None:
            lease = _DELETED
        if lease is None or self._lease is None or _version(lease) != _version(self._lease):
            self._seen_at = self._monotonic()
        self._lease = lease

    def _is_mine(self) -> bool:
        return bool(self._lease and self._lease.get("spec", {}).get("holderIdentity") == self.identity)

    def _is_over(self) -> bool:
        spec = (self._lease or {}).get("spec", {})
        lasts = spec.get("leaseDurationSeconds") or self._settings.duration_seconds
        return not spec.get("holderIdentity") or self._monotonic() - self._seen_at > lasts

    async def _take(self) -> None:
        began, now = self._monotonic(), _format_micro_time(self._wall_clock())
        before = (self._lease or {}).get("spec", {})
        mine = self._is_mine()
        spec = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self._settings.duration_seconds,
            "acquireTime": before.get("acquireTime", now) if mine else now,
            "renewTime": now,
            "leaseTransitions": before.get("leaseTransitions", 0) + (0 if mine or not self._lease else 1),
        }
        if self._lease is None or self._lease is _DELETED:
            metadata = {"name": self._settings.name, "namespace": self._namespace}
            lease = {"apiVersion": LEASE.api_version, "kind": LEASE.name, "metadata": metadata, "spec": spec}
            self._see(await self._send("create", "POST", lease))
        else:
            self._see(await self._send("update", "PUT", {**self._lease, "spec": spec}))
        elected = self.may_write_for() <= 0
        self._held_until = began + self._settings.renew_deadline_seconds
        if elected:
            self.term += 1
            self._leads = True
            logger.info("holds the lease", extra={"identity": self.identity})
            self._on_elected()

    async def _get(self) -> dict[str, Any] | None:
        try:
            return await self._send("get", "GET", None)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def _send(self, verb: str, method: str, body: dict[str, Any] | None) -> dict[str, Any]:
        if not is_permitted(LEASE.group, LEASE.plural, verb):
            raise PermissionError(f"core/permissions.py does not allow to {verb} leases")
        path = LEASE.path(self._namespace, "" if method == "POST" else self._settings.name)
        return (await self._connection.request(method, path, body, timeout_seconds=self._settings.renew_deadline_seconds))[1]


def _version(lease: dict[str, Any]) -> str:
    return str(lease.get("metadata", {}).get("resourceVersion", ""))


def _format_micro_time(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

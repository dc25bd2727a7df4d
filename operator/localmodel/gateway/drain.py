"""Leaving without losing a stream: stop being ready, go on serving while others still send, wait for the streams.

Two ways in: Triton's preStop hook (`/drain`, left again if that Triton comes back) and SIGTERM (for good); a second SIGTERM
ends the wait. It never keeps a container alive whose backend is dead: nothing would end there.
"""

import asyncio
import logging
from collections.abc import Callable
from time import monotonic

log = logging.getLogger("localmodel.gateway.drain")

_TICK_SECONDS = 0.05


class Drain:
    def __init__(
        self, endpoint_removal_seconds: float, limit_seconds: float, busy: Callable[[], bool], dead: Callable[[], bool]
    ) -> None:
        self._removal_seconds = endpoint_removal_seconds
        self._limit_seconds = limit_seconds
        self._busy = busy
        self._dead = dead
        self._began: float | None = None
        self._for_good = False
        self._hurried = False

    @property
    def draining(self) -> bool:
        return self._began is not None

    @property
    def refusing(self) -> bool:
        """Nobody should send here any more: new requests are turned away."""
        return self._began is not None and monotonic() - self._began >= self._removal_seconds

    async def run(self, *, for_good: bool = False) -> bool:
        """Returns when all requests have ended (True), at the limit, or at once if the backend is dead or a new one (False)."""
        self._for_good = self._for_good or for_good
        if self._began is None:
            self._began = monotonic()
            told = "draining: new requests are refused in %g s; those that run have %g s more"
            log.info(told, self._removal_seconds, self._limit_seconds)
        complete, why = await self._wait()
        log.info("the drain has ended: %s", why)
        return complete

    async def _wait(self) -> tuple[bool, str]:
        while self._began is not None:
            if self._dead() and (not self._for_good or not self._busy()):
                self.backend_returned()
                return False, "the backend is dead, so there is nothing to wait for"
            now = monotonic() - self._began
            if now >= self._removal_seconds and not self._busy():
                return True, "all requests are answered"
            if self._hurried or now >= self._removal_seconds + self._limit_seconds:
                return False, "requests still run"
            await asyncio.sleep(_TICK_SECONDS)
        return False, "the backend is a new one"

    def hurry(self) -> None:
        """Whoever stops us does not want to wait for the streams."""
        self._hurried = True

    def backend_returned(self) -> None:
        """A new Triton, or none at all: only a SIGTERM to the gateway itself still counts."""
        if not self._for_good:
            self._began = None

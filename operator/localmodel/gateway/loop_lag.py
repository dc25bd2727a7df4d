"""How late the event loop runs: the first sign of a gateway that has too much to do.

While it stays late, new requests are turned away before they are read: parsing them would make every stream later still.
"""

import asyncio
import logging
from time import monotonic

log = logging.getLogger("localmodel.gateway.loop_lag")

_EVERY_SECONDS = 0.5
_LATE_SECONDS = 0.5
"""A stream's tokens arrive in visible lumps."""
_LATE_TIMES = 4
"""So often in a row: one long pause is no overload."""


class LagGuard:
    """Pure: measured delays in, verdict out."""

    def __init__(self) -> None:
        self._late = 0

    @property
    def overloaded(self) -> bool:
        return self._late >= _LATE_TIMES

    def note(self, lag_seconds: float) -> None:
        """Half of what is late counts as recovered; in between, the verdict stays."""
        if lag_seconds >= _LATE_SECONDS:
            self._late = min(self._late + 1, _LATE_TIMES)
        elif lag_seconds < _LATE_SECONDS / 2 or not self.overloaded:
            self._late = 0


class LoopLag:
    def __init__(self) -> None:
        self.seconds = 0.0
        self.guard = LagGuard()

    async def run(self) -> None:
        while True:
            due = monotonic() + _EVERY_SECONDS
            await asyncio.sleep(_EVERY_SECONDS)
            self.seconds = max(0.0, monotonic() - due)
            before = self.guard.overloaded
            self.guard.note(self.seconds)
            if self.guard.overloaded and not before:
                log.warning(
                    "the event loop is %.1f s late: new requests are turned away; give the gateway more CPU", self.seconds
                )
            elif before and not self.guard.overloaded:
                log.info("the event loop is in time again: new requests are taken")

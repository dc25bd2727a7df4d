"""Where a sequence's events wait for the request that asked for them.

One waiter, one lazy timer: moving a deadline later costs nothing, which matters because every token does it. It knows
nothing of HTTP or of what an event means.
"""

import asyncio
from time import monotonic

from localmodel.api.channel import SequenceEvent
from localmodel.gateway.errors import ApiError


class Mailbox:
    def __init__(self) -> None:
        self._events: list[SequenceEvent] = []
        self._failure: ApiError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def put(self, event: SequenceEvent) -> None:
        self._events.append(event)
        if self._waiter is not None and len(self._events) == 1:
            self._wake()

    def fail(self, error: ApiError) -> None:
        """Ends the wait with an error, after the events that already arrived. The first error stays."""
        if self._failure is None:
            self._failure = error
        self._wake()

    async def take(self, until: float) -> list[SequenceEvent]:
        """All events that have arrived; waits for the first. Empty when `until` is reached; raises what `fail` said."""
        if not self._events and self._failure is None and monotonic() < until:
            self._until = until
            self._arm()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if not self._events and self._failure is not None:
            raise self._failure
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _arm(self) -> None:
        if self._timer is not None:
            if self._timer_at <= self._until:
                return
            self._timer.cancel()
        self._timer_at = self._until
        self._timer = asyncio.get_running_loop().call_later(max(0.0, self._until - monotonic()), self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if monotonic() >= self._until:
            self._wake()
        else:
            self._arm()

"""Where a sequence's events wait for the request that asked for them, or are handed on at once for a request that waits.

One waiter, one lazy timer: moving a deadline later costs nothing, which matters because every token does it. It knows
nothing of HTTP, and of an event only how many tokens it is and whether it is the last.
"""

import asyncio
from collections.abc import Callable
from time import monotonic

from localmodel.api.events import SequenceEvent
from localmodel.gateway.errors import ApiError

_LONGEST_SECONDS = 5.0
"""How far ahead the timer is set: an earlier limit seldom comes after a later one then, and needs no other timer."""


Read = Callable[[list[SequenceEvent]], bool]


class Mailbox:
    __slots__ = (
        "_broken", "_events", "_failure", "_loop", "_read", "_timer", "_timer_at", "_until", "_waiter", "_whole",
        "ended", "heard_at",
    )  # fmt: skip

    def __init__(self) -> None:
        self._events: list[SequenceEvent] = []
        self._failure: ApiError | None = None
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._whole = False
        """The waiter wants no news before the last."""
        self._read: Read | None = None
        """Takes the news before the last in the waiter's stead."""
        self._broken: Exception | None = None
        """What `_read` raised."""
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self.heard_at = 0.0
        """When the last event came, by `monotonic`."""
        self.ended = False
        """The last event has come, or will never come."""

    def put(self, event: SequenceEvent, now: float) -> None:
        self.heard_at = now
        if event.finish_reason is not None:
            self._events.append(event)
            self.ended = True
            self._wake()
        else:
            if not self._whole and not self._events:
                if self._read is None:
                    self._wake()
                else:
                    self._loop.call_soon(self._hand_on)
            self._events.append(event)

    def _hand_on(self) -> None:
        """All that came with one reading of the event stream: the busier this process, the more tokens are one piece."""
        read, events = self._read, self._events
        if read is None or self.ended:
            return
        self._events = []
        try:
            if read(events):
                return
        except Exception as error:  # the waiter's
            self._broken = error
        self._read = None
        self._wake()

    def fail(self, error: ApiError) -> None:
        """Ends the wait with an error, after the events that already arrived. The first error stays."""
        if self._failure is None:
            self._failure = error
        self.ended = True
        self._wake()

    async def take(self, until: float, *, whole: bool = False, read: Read | None = None) -> list[SequenceEvent]:
        """All events that have arrived; waits for the first, or if `whole` for the last.

        What there is, maybe nothing, when `until` is reached; raises what `fail` said after the last event.
        With `read`, events that come during the wait are given to it and wake nobody, but for the last and what came with it;
        it ends the wait with False, or with an exception, which is raised here.
        """
        missing = not self.ended if whole else not self._events and self._failure is None
        if missing and monotonic() < until:
            self._until = until
            if self._timer is None or self._timer_at > until:
                self._arm()
            self._waiter = self._loop.create_future()
            self._whole, self._read = whole, read
            try:
                await self._waiter
            finally:
                self._waiter = self._read = None
                self._whole = False
            if self._broken is not None:
                raise self._broken
        if not self._events and self._failure is not None:
            raise self._failure
        events, self._events = self._events, []
        return events

    def drop(self) -> int:
        """Tokens that came and that nobody will read."""
        events, self._events = self._events, []
        return sum([event.tokens for event in events])

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        now = monotonic()
        self._timer_at = min(self._until, now + _LONGEST_SECONDS)
        self._timer = self._loop.call_later(max(0.0, self._timer_at - now), self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if monotonic() >= self._until:
            self._wake()
        else:
            self._arm()

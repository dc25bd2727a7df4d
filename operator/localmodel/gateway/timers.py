"""Which of the four timeouts runs in which phase, and when it is over.

Pure arithmetic over a monotonic clock that the caller reads; nothing here sleeps or schedules.
"""

from typing import NamedTuple

from localmodel.api.gateway import Outcome, Timeouts
from localmodel.gateway import errors

KEEP_ALIVE_SECONDS = 15.0


class Limit(NamedTuple):
    """A moment and what it means to reach it."""

    at: float
    outcome: Outcome
    seconds: float

    def error(self) -> errors.ApiError:
        return errors.timed_out(self.outcome, self.seconds)


class Deadlines:
    """The limits of one request; each phase is capped by the total."""

    def __init__(self, timeouts: Timeouts, started: float) -> None:
        self._timeouts = timeouts
        self.total = Limit(started + timeouts.total_seconds, "total_timeout", timeouts.total_seconds)

    def queue(self, entered: float) -> Limit:
        return self._capped(entered, "queue_timeout", self._timeouts.queue_seconds)

    def first_token(self, sent: float) -> Limit:
        return self._capped(sent, "first_token_timeout", self._timeouts.first_token_seconds)

    def idle(self, last_event: float) -> Limit:
        return self._capped(last_event, "idle_timeout", self._timeouts.idle_seconds)

    def _capped(self, since: float, outcome: Outcome, seconds: float) -> Limit:
        at = since + seconds
        return Limit(at, outcome, seconds) if at < self.total.at else self.total

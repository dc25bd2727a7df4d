"""Which of the four timeouts, or of the client's own, runs in which phase, and when it is over.

Pure arithmetic over a monotonic clock that the caller reads; nothing here sleeps or schedules.
"""

from typing import NamedTuple

from localmodel.api.gateway import Outcome, Timeouts
from localmodel.gateway import errors
from localmodel.gateway.client_headers import DEADLINE, NO_CLIENT_HEADERS, READ_TIMEOUT, ClientHeaders

KEEP_ALIVE_SECONDS = 15.0


class Limit(NamedTuple):
    """A moment and what it means to reach it."""

    at: float
    outcome: Outcome
    seconds: float
    header: str = ""
    """Of the request, if the client set this limit itself."""

    def error(self) -> errors.ApiError:
        return errors.timed_out(self.outcome, self.seconds, self.header)


class Deadlines:
    """The limits of one request; each phase is capped by the total, and the total by the client's own deadline."""

    def __init__(self, timeouts: Timeouts, started: float, client: ClientHeaders = NO_CLIENT_HEADERS) -> None:
        self._timeouts = timeouts
        self._idle_seconds, self._idle_header = timeouts.idle_seconds, ""
        if client.read_seconds is not None and client.read_seconds < timeouts.idle_seconds:
            self._idle_seconds, self._idle_header = client.read_seconds, READ_TIMEOUT
        self.total = Limit(started + timeouts.total_seconds, "total_timeout", timeouts.total_seconds)
        if client.deadline_seconds is not None and client.deadline_seconds < timeouts.total_seconds:
            self.total = Limit(started + client.deadline_seconds, "total_timeout", client.deadline_seconds, DEADLINE)

    def queue(self, entered: float) -> Limit:
        return self._capped(Limit(entered + self._timeouts.queue_seconds, "queue_timeout", self._timeouts.queue_seconds))

    def first_token(self, sent: float) -> Limit:
        seconds = self._timeouts.first_token_seconds
        return self._capped(Limit(sent + seconds, "first_token_timeout", seconds))

    def idle(self, last_event: float) -> Limit:
        return self._capped(Limit(last_event + self._idle_seconds, "idle_timeout", self._idle_seconds, self._idle_header))

    def idle_at(self, last_event: float) -> float:
        """`idle(last_event).at`, for every token."""
        return min(last_event + self._idle_seconds, self.total.at)

    def _capped(self, limit: Limit) -> Limit:
        return limit if limit.at < self.total.at else self.total

"""When requests should not be sent at all, because those before them failed: a circuit breaker.

Pure: outcomes and times in, verdicts out. Only the backend's failures count, in a row: no connection, its errors, no first
token in time. What the client does (leave, ask for nonsense) is neither success nor failure.
"""

from typing import Literal

State = Literal["closed", "open", "half_open"]

_LONGEST_OPEN_SECONDS = 60.0
_PROBE_RETRY_SECONDS = 1.0


class Trial:
    """One request's permission to be sent, and its duty to report, once."""

    __slots__ = ("_breaker", "_period")

    def __init__(self, breaker: "Breaker", period: int) -> None:
        self._breaker: Breaker | None = breaker
        self._period = period

    def report(self, ok: bool | None, now: float) -> None:
        """None: it says nothing about the backend. A report after the first, or from before the last change, is ignored."""
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker.take(self._period, ok, now)


class Breaker:
    def __init__(self, failures: int, open_seconds: float) -> None:
        """Opens after so many failures in a row, 0: never; for so long at first, twice as long after each failed probe."""
        self._failures_allowed = failures
        self._first_open_seconds = open_seconds
        self._open_seconds = open_seconds
        self._opened_at: float | None = None
        self._failures = 0
        self._period = 0
        """Grows with each change of state, so that requests from before it have no say."""
        self._probing = False

    def state(self, now: float) -> State:
        if self._opened_at is None:
            return "closed"
        return "half_open" if now >= self._opened_at + self._open_seconds else "open"

    def retry_after(self, now: float) -> float | None:
        """None if a request may be sent now, else the seconds after which it is worth another try."""
        if self._opened_at is None:
            return None
        left = self._opened_at + self._open_seconds - now
        if left > 0:
            return left
        return _PROBE_RETRY_SECONDS if self._probing else None

    def begin(self, now: float) -> Trial | None:
        """None where `retry_after` says so. After an open time, the first is the one probe."""
        if self.retry_after(now) is not None:
            return None
        self._probing = self._opened_at is not None
        return Trial(self, self._period)

    def reset(self) -> None:
        """The backend is a new one: what the old one did says nothing about it."""
        self._close()

    def take(self, period: int, ok: bool | None, now: float) -> None:
        """For Trial only."""
        if period != self._period:
            return
        self._probing = False
        if ok:
            self._failures = 0
            if self._opened_at is not None:
                self._close()
        elif ok is False:
            self._failures += 1
            if self._opened_at is not None:
                self._open(now, min(self._open_seconds * 2, max(_LONGEST_OPEN_SECONDS, self._first_open_seconds)))
            elif self._failures == self._failures_allowed:
                self._open(now, self._first_open_seconds)

    def _open(self, now: float, seconds: float) -> None:
        self._period += 1
        self._opened_at = now
        self._open_seconds = seconds

    def _close(self) -> None:
        self._period += 1
        self._opened_at = None
        self._open_seconds = self._first_open_seconds
        self._failures = 0
        self._probing = False

"""How many failed requests may be sent again: a budget, so that retries never become the load that keeps a backend down.

Pure. In any minute there are at most a share of that minute's requests plus three; a request that the client itself sends
again uses up the budget too, because it is a retry already.
"""

from collections import deque
from typing import Literal

Result = Literal["answered", "failed", "no_budget"]

_WINDOW_SECONDS = 60
_FREE_RETRIES = 3


class _Second:
    __slots__ = ("at", "requests", "retries")

    def __init__(self, at: int) -> None:
        self.at = at
        self.requests = 0
        self.retries = 0


class RetryBudget:
    def __init__(self, percent: int) -> None:
        self._percent = percent
        self._seconds: deque[_Second] = deque()

    def request(self, now: float, *, again: bool) -> None:
        """A request has come; `again`: not for the first time. It is never refused for that."""
        second = self._at(now)
        second.requests += 1
        second.retries += again

    def grant(self, now: float) -> bool:
        """Takes one retry from the budget, if there is one."""
        second = self._at(now)
        requests = sum(each.requests for each in self._seconds)
        if sum(each.retries for each in self._seconds) + 1 > _FREE_RETRIES + requests * self._percent / 100:
            return False
        second.retries += 1
        return True

    def _at(self, now: float) -> _Second:
        while self._seconds and self._seconds[0].at <= now - _WINDOW_SECONDS:
            self._seconds.popleft()
        if not self._seconds or self._seconds[-1].at < int(now):
            self._seconds.append(_Second(int(now)))
        return self._seconds[-1]

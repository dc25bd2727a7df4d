"""How much one caller may use: requests and tokens in any minute, and requests at once.

Pure: the caller gives the time. A minute is a sliding one, kept in buckets of a second and rounded up: what was admitted counts
for 60 to 61 seconds, so that no 60 seconds ever hold more than the limit, and the memory of a caller is constant.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

WINDOW_SECONDS = 60
_SPAN = WINDOW_SECONDS + 1
"""Buckets that a window of 60 seconds may touch."""

Kind = Literal["requests", "tokens", "concurrency"]


@dataclass(frozen=True)
class Allowance:
    """None: no limit."""

    requests: int | None = None
    tokens: int | None = None
    concurrent: int | None = None


@dataclass(frozen=True)
class Refusal:
    kind: Kind
    limit: int
    retry_after: float | None
    """Seconds; None: as it stands it will never fit."""


@dataclass
class Grant:
    """One admitted request, until it has ended."""

    at: float
    tokens: int
    open: bool = True


class Window:
    """What was taken lately, by second."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._buckets: deque[list[int]] = deque()

    def forget(self, now: float) -> None:
        while self._buckets and self._buckets[0][0] + _SPAN <= now:
            self.used -= self._buckets.popleft()[1]

    def add(self, now: float, amount: int) -> None:
        """Time must not go back."""
        second = math.floor(now)
        if not self._buckets or self._buckets[-1][0] < second:
            self._buckets.append([second, 0])
        self._buckets[-1][1] += amount
        self.used += amount

    def give_back(self, at: float, amount: int) -> None:
        """Less was used than was added then; without effect if that is forgotten."""
        second = math.floor(at)
        for bucket in self._buckets:
            if bucket[0] == second:
                bucket[1] -= amount
                self.used -= amount

    def remaining(self) -> int:
        return max(0, self.limit - self.used)

    def wait_for(self, now: float, amount: int) -> float | None:
        """Seconds until so much fits, if nobody else takes it; None if it never will."""
        missing = self.used + amount - self.limit
        if missing <= 0:
            return 0.0
        for second, taken in self._buckets:
            missing -= taken
            if missing <= 0:
                return second + _SPAN - now
        return None

    def reset_after(self, now: float) -> float:
        """Seconds until all of it is free again."""
        last = next((second for second, taken in reversed(self._buckets) if taken), None)
        return 0.0 if last is None else last + _SPAN - now


@dataclass
class Account:
    """What one caller has used."""

    allowance: Allowance
    running: int = 0
    windows: dict[Kind, Window] = field(init=False)

    def __post_init__(self) -> None:
        limits: dict[Kind, int | None] = {"requests": self.allowance.requests, "tokens": self.allowance.tokens}
        self.windows = {kind: Window(limit) for kind, limit in limits.items() if limit is not None}

    def admit(self, now: float, tokens: int) -> Grant | Refusal:
        """`tokens` is the most that the request may use, prompt and answer. A refusal takes nothing."""
        self._forget(now)
        amounts: dict[Kind, int] = {"requests": 1, "tokens": tokens}
        waits = [(kind, window, window.wait_for(now, amounts[kind])) for kind, window in self.windows.items()]
        late = [(kind, window, wait) for kind, window, wait in waits if wait != 0.0]
        if late:
            kind, window, wait = max(late, key=lambda each: math.inf if each[2] is None else each[2])
            return Refusal(kind, window.limit, wait)
        most = self.allowance.concurrent
        if most is not None and self.running >= most:
            return Refusal("concurrency", most, 1.0)
        for kind, window in self.windows.items():
            window.add(now, amounts[kind])
        self.running += 1
        return Grant(now, tokens)

    def settle(self, grant: Grant, now: float, used: int) -> None:
        """The request has ended and used so many tokens. A second call does nothing."""
        self._end(grant, now, 0, used)

    def void(self, grant: Grant, now: float) -> None:
        """The request was not served for a reason of ours: it counts as if it had not been."""
        self._end(grant, now, 1, 0)

    def _end(self, grant: Grant, now: float, requests: int, used: int) -> None:
        if not grant.open:
            return
        grant.open = False
        self.running -= 1
        self._forget(now)
        amounts: dict[Kind, int] = {"requests": requests, "tokens": grant.tokens - used}
        for kind, window in self.windows.items():
            window.give_back(grant.at, amounts[kind])

    def _forget(self, now: float) -> None:
        for window in self.windows.values():
            window.forget(now)

    def headers(self, now: float) -> dict[str, str]:
        """OpenAI's headers on what is left."""
        self._forget(now)
        found: dict[str, str] = {}
        for kind, window in self.windows.items():
            found[f"x-ratelimit-limit-{kind}"] = str(window.limit)
            found[f"x-ratelimit-remaining-{kind}"] = str(window.remaining())
            found[f"x-ratelimit-reset-{kind}"] = format_duration(window.reset_after(now))
        return found


def format_duration(seconds: float) -> str:
    """As OpenAI writes it: 1m0s, 59s, 120ms."""
    milliseconds = math.ceil(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    whole = math.ceil(milliseconds / 1000)
    return f"{whole // 60}m{whole % 60}s" if whole >= 60 else f"{whole}s"

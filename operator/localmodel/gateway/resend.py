"""Sends a request again whose first try failed before its first text: waits until the backend is back, within the limits
of the request, and asks the budget. Which failures may be tried again is decided where they are raised (`ApiError.resend`).
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar

from localmodel.gateway import errors
from localmodel.gateway.exchange import Exchange
from localmodel.gateway.retries import Result, RetryBudget

T = TypeVar("T")

_PAUSE_SECONDS = 0.1
_PAUSE_GROWTH = 4
_LONGEST_PAUSE_SECONDS = 5.0
"""Before a retry, times 1 to 2."""


class Resender:
    def __init__(
        self,
        attempts: int,
        budget: RetryBudget,
        wait_backend: Callable[[float], Awaitable[bool]],
        on_result: Callable[[Result], None],
    ) -> None:
        """`wait_backend(until)`: whether the backend takes requests, latest at `until` (monotonic seconds)."""
        self._attempts = attempts
        self.budget = budget
        self._wait_backend = wait_backend
        self._on_result = on_result

    async def run(self, exchange: Exchange, attempt: Callable[[bool], Awaitable[T]], until: Callable[[], float]) -> T:
        """`attempt(again)` until it succeeds or its failure has to stand; `until()`: when patience ends. Pauses are waits."""
        tries = 0
        while True:
            try:
                result = await attempt(tries > 0)
            except errors.ApiError as error:
                if tries:
                    self._on_result("failed")
                if tries >= self._attempts:
                    raise
                with exchange.waiting():
                    if not await self._may_resend(error, tries, until()):
                        raise
                tries += 1
                exchange.record.retries += 1
            else:
                if tries:
                    self._on_result("answered")
                return result

    async def _may_resend(self, error: errors.ApiError, tries: int, until: float) -> bool:
        if not error.resend:
            return False
        if not self.budget.grant(monotonic()):
            self._on_result("no_budget")
            return False
        pause = min(_PAUSE_SECONDS * _PAUSE_GROWTH**tries, _LONGEST_PAUSE_SECONDS)
        await asyncio.sleep(pause * (1 + random.random()))
        return await self._wait_backend(until)

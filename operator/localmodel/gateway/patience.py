"""How long a connection may take over the head of a request, and how long it may say nothing.

Timers cost a request nothing: that of a head is set only if the head does not come at once, and that of silence is moved on
when it is over. This module only tells; closing and answering is the connection's.
"""

import asyncio
from collections.abc import Callable
from time import monotonic

from localmodel.gateway import errors
from localmodel.gateway.malformed import HEAD_LIMIT, URL_LIMIT

HEAD_SECONDS = 10.0
IDLE_SECONDS = 75.0


class Head:
    """One that has begun and is not complete."""

    def __init__(self, refuse: Callable[[errors.ApiError], None]) -> None:
        self._refuse = refuse
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None

    def grow(self, size: int) -> None:
        self._size += size
        if self._size > HEAD_LIMIT + URL_LIMIT:
            self._refuse(errors.too_large(431, "request head", HEAD_LIMIT))
        elif self._timer is None:
            late = errors.body_timeout("request head", HEAD_SECONDS)
            self._timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._refuse, late)

    def end(self) -> None:
        self._size = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Silence:
    """Since the last answer. `busy` says whether one is being made."""

    def __init__(self, busy: Callable[[], bool], on_end: Callable[[], None]) -> None:
        self._busy = busy
        self._on_end = on_end
        self._since = monotonic()
        self._timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._check)

    def begin(self) -> None:
        self._since = monotonic()

    def end(self) -> None:
        self._timer.cancel()

    def _check(self) -> None:
        left = IDLE_SECONDS if self._busy() else self._since + IDLE_SECONDS - monotonic()
        if left > 0:
            self._timer = asyncio.get_running_loop().call_later(left, self._check)
        else:
            self._on_end()

"""The work queue: each key once, never twice at the same time, with back-off; the one way from an event to work.

`KeyQueue` decides and has no clock of its own, so that tests turn it by hand. `WorkQueue` runs workers around it.
"""

import asyncio
import heapq
import itertools
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
logger = logging.getLogger(__name__)


class KeyQueue(Generic[Key]):
    """Ready keys in order of arrival, delayed ones by time. A key that is added while it is worked on runs once more."""

    def __init__(self, *, backoff_base_seconds: float = 0.2, backoff_limit_seconds: float = 60.0) -> None:
        self._base, self._limit = backoff_base_seconds, backoff_limit_seconds
        self._ready: deque[Key] = deque()
        self._since: dict[Key, float] = {}
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._count = itertools.count()
        self._running: set[Key] = set()
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}

    def add(self, key: Key, now: float) -> None:
        self._due.pop(key, None)
        if key in self._running:
            self._again.add(key)
        elif key not in self._since:
            self._since[key] = now
            self._ready.append(key)

    def add_after(self, key: Key, delay: float, now: float) -> None:
        """The earliest wish counts; a key that waits already waits no longer because of it."""
        due = now + delay
        if key in self._since or key in self._again or self._due.get(key, due + 1) <= due:
            return
        self._due[key] = due
        heapq.heappush(self._heap, (due, next(self._count), key))

    def take(self, now: float) -> Key | None:
        self._wake(now)
        if not self._ready:
            return None
        key = self._ready.popleft()
        del self._since[key]
        self._running.add(key)
        return key

    def done(self, key: Key, now: float, *, failed: bool = False, requeue_after: float | None = None) -> None:
        """The end of the work that `take` began. A failure comes back after a growing pause, unless something changed."""
        self._running.discard(key)
        if failed:
            self._failures[key] = failures = self._failures.get(key, 0) + 1
            pause = min(self._limit, self._base * 2 ** min(failures - 1, 30))
            requeue_after = max(pause, requeue_after or 0.0)
        else:
            self._failures.pop(key, None)
        if key in self._again:
            self._again.discard(key)
            self.add(key, now)
        elif requeue_after is not None:
            self.add_after(key, requeue_after, now)

    def next_due(self) -> float | None:
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    @property
    def depth(self) -> int:
        return len(self._ready)

    def age(self, now: float) -> float:
        """Seconds that the oldest ready key has waited."""
        return now - self._since[self._ready[0]] if self._ready else 0.0

    def _wake(self, now: float) -> None:
        while (due := self.next_due()) is not None and due <= now:
            self.add(heapq.heappop(self._heap)[2], now)


class Failed(Exception):
    """Raised by a handler: come back after the back-off, or after `retry_after` if that is longer."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class WorkQueue(Generic[Key]):
    """A KeyQueue on the event loop's clock, with workers. The handler returns seconds until the next time, or None."""

    def __init__(self, handle: Callable[[Key], Awaitable[float | None]], queue: KeyQueue[Key], *, workers: int) -> None:
        self._handle, self._queue, self._workers = handle, queue, workers
        self._wakeup = asyncio.Event()

    def add(self, key: Key) -> None:
        self._queue.add(key, _now())
        self._wakeup.set()

    def add_after(self, key: Key, delay: float) -> None:
        self._queue.add_after(key, delay, _now())
        self._wakeup.set()

    @property
    def depth(self) -> int:
        return self._queue.depth

    @property
    def age_seconds(self) -> float:
        return self._queue.age(_now())

    async def run(self) -> None:
        """Until cancelled."""
        slots = asyncio.Semaphore(self._workers)
        async with asyncio.TaskGroup() as group:
            while True:
                await slots.acquire()
                key = await self._next()
                group.create_task(self._work(key, slots))

    async def _next(self) -> Key:
        while True:
            self._wakeup.clear()
            key = self._queue.take(_now())
            if key is not None:
                return key
            due = self._queue.next_due()
            try:
                await asyncio.wait_for(self._wakeup.wait(), None if due is None else max(0.0, due - _now()))
            except TimeoutError:
                pass

    async def _work(self, key: Key, slots: asyncio.Semaphore) -> None:
        try:
            requeue_after = await self._handle(key)
        except Failed as failure:
            logger.warning("work failed", extra={"key": key, "error": str(failure)})
            self._queue.done(key, _now(), failed=True, requeue_after=failure.retry_after)
        except Exception:
            logger.exception("work failed unexpectedly", extra={"key": key})
            self._queue.done(key, _now(), failed=True)
        else:
            self._queue.done(key, _now(), requeue_after=requeue_after)
        finally:
            slots.release()
            self._wakeup.set()


def _now() -> float:
    return asyncio.get_running_loop().time()

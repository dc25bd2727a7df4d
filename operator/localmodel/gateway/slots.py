"""Who may run now and who waits: the slots of the engine and the queue before them.

Sans-I/O: it decides and counts; waking whoever was admitted is the caller's job. A slot is given back only by
`release`, which the caller calls when the engine has ended the sequence, not when the client has left.
"""

from collections import OrderedDict, deque
from typing import Generic, Literal, TypeVar

Verdict = Literal["run", "wait", "refuse"]
T = TypeVar("T")

_RATE_WINDOW_SECONDS = 30.0
_LONGEST_RETRY_SECONDS = 60.0


class Slots(Generic[T]):
    """First come, first served; tickets are opaque and hashable."""

    def __init__(self, slots: int, queue: int) -> None:
        self.slots = slots
        self.queue_limit = queue
        self.in_use = 0
        self._waiting: OrderedDict[T, None] = OrderedDict()
        self._releases: deque[float] = deque(maxlen=256)

    @property
    def queue_length(self) -> int:
        return len(self._waiting)

    def offer(self, ticket: T) -> Verdict:
        if self.in_use < self.slots and not self._waiting:
            self.in_use += 1
            return "run"
        if len(self._waiting) >= self.queue_limit:
            return "refuse"
        self._waiting[ticket] = None
        return "wait"

    def withdraw(self, ticket: T) -> bool:
        """Takes a waiting ticket out of the queue; False if it does not wait (any more)."""
        return self._waiting.pop(ticket, self) is None

    def release(self, now: float) -> T | None:
        """Gives a slot back. Returns the ticket that has it now, if one waited."""
        self._releases.append(now)
        if self._waiting:
            ticket, _ = self._waiting.popitem(last=False)
            return ticket
        self.in_use -= 1
        return None

    def retry_after(self, now: float) -> float:
        """Seconds until the queue as it is now has probably drained, from the rate of recent releases."""
        recent = [at for at in self._releases if now - at <= _RATE_WINDOW_SECONDS]
        if not recent:
            return 1.0
        rate = len(recent) / max(now - recent[0], 1.0)
        return min(max((self.queue_length + 1) / rate, 0.05), _LONGEST_RETRY_SECONDS)

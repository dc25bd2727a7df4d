"""Who may run now and who waits: the engine's slots and its memory, and the queue before them.

Sans-I/O: it decides and counts; waking whoever was admitted is the caller's job. A slot is given back only by
`release`, which the caller calls when the engine has ended the sequence, not when the client has left.
First come, first served: nobody passes the first in the queue, so a large request waits for memory but never starves.
"""

from collections import OrderedDict, deque
from typing import Generic, Literal, NamedTuple, TypeVar

Verdict = Literal["run", "wait", "refuse"]
T = TypeVar("T")

_RATE_WINDOW_SECONDS = 30.0
_LONGEST_RETRY_SECONDS = 60.0
_TOKEN_BYTES = 36
"""Of a token id in a tuple."""


class Need(NamedTuple):
    """What one request takes."""

    tokens: int = 0
    """Of the engine's KV cache while it runs: prompt and longest answer."""
    size: int = 0
    """Bytes it holds here while it waits."""


def need_of(prompt_tokens: int, answer_tokens: int, body: int = 0) -> Need:
    """Of one sequence. `body`: bytes of the request that are held with it."""
    return Need(prompt_tokens + answer_tokens, body + _TOKEN_BYTES * prompt_tokens)


class Slots(Generic[T]):
    """Tickets are opaque and hashable."""

    def __init__(self, slots: int, queue: int, queue_bytes: int) -> None:
        self.slots = slots
        self.queue_limit = queue
        self.queue_bytes = queue_bytes
        self.token_limit = 0
        """What all that run may take together; 0: not known yet."""
        self.in_use = 0
        self.tokens_in_use = 0
        self.queued_bytes = 0
        self._waiting: OrderedDict[T, Need] = OrderedDict()
        self._releases: deque[float] = deque(maxlen=256)

    @property
    def queue_length(self) -> int:
        return len(self._waiting)

    def offer(self, ticket: T, need: Need, *, again: bool = False) -> Verdict:
        """`again`: it has been admitted before, so it goes first and is not refused."""
        if (again or not self._waiting) and self._fits(need):
            self._take(need)
            return "run"
        if not again and (self.queue_length >= self.queue_limit or self.queued_bytes + need.size > self.queue_bytes):
            return "refuse"
        self._waiting[ticket] = need
        self.queued_bytes += need.size
        if again:
            self._waiting.move_to_end(ticket, last=False)
        return "wait"

    def most_at_once(self, need: Need) -> int:
        """How many of these, offered together, are taken if nobody else is there."""
        fit = self.token_limit // need.tokens if self.token_limit and need.tokens else self.slots
        places = min(self.queue_limit, self.queue_bytes // need.size) if need.size else self.queue_limit
        return max(1, min(self.slots, fit)) + places

    def withdraw(self, ticket: T) -> bool:
        """Takes a waiting ticket out of the queue; False if it does not wait (any more). Then ask `admit`."""
        need = self._waiting.pop(ticket, None)
        if need is None:
            return False
        self.queued_bytes -= need.size
        return True

    def drop(self) -> list[T]:
        """Empties the queue; what waited in it."""
        dropped = list(self._waiting)
        self._waiting.clear()
        self.queued_bytes = 0
        return dropped

    def release(self, need: Need, now: float) -> None:
        """Gives back what was taken. Then ask `admit`."""
        self._releases.append(now)
        self.in_use -= 1
        self.tokens_in_use -= need.tokens

    def admit(self) -> list[T]:
        """The tickets that have a slot from now on."""
        admitted = []
        while self._waiting:
            ticket, need = next(iter(self._waiting.items()))
            if not self._fits(need):
                break
            self.withdraw(ticket)
            self._take(need)
            admitted.append(ticket)
        return admitted

    def _fits(self, need: Need) -> bool:
        """One alone always does: whether it is too large for the engine at all is not decided here."""
        if self.in_use == 0:
            return self.slots > 0
        enough = self.token_limit == 0 or self.tokens_in_use + need.tokens <= self.token_limit
        return self.in_use < self.slots and enough

    def _take(self, need: Need) -> None:
        self.in_use += 1
        self.tokens_in_use += need.tokens

    def retry_after(self, now: float) -> float:
        """Seconds until the queue as it is now has probably drained, from the rate of recent releases."""
        recent = [at for at in self._releases if now - at <= _RATE_WINDOW_SECONDS]
        if not recent:
            return 1.0
        rate = len(recent) / max(now - recent[0], 1.0)
        return min(max((self.queue_length + 1) / rate, 0.05), _LONGEST_RETRY_SECONDS)

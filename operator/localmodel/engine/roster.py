"""Which sequences wait and which run, and what the running ones hold: slots and blocks.

Why it exists: the rules of arrival, preemption and deadlines hold whatever a step computes (see `scheduler`, which plans the
steps). Pure like that one.
"""

import heapq
from math import inf

from localmodel.api.events import FinishReason
from localmodel.engine.blocks import BlockPool
from localmodel.engine.holding import let_go, try_hold
from localmodel.engine.sequence import Key, Output, Sequence


class Roster:
    """Sequences waiting and running, both in order of arrival."""

    def __init__(self, slots: int, pool: BlockPool) -> None:
        """`pool` holds at least one sequence of the whole context window."""
        self.pool = pool
        self._free_slots = list(range(slots))
        self._waiting: dict[Key, Sequence] = {}
        self._running: dict[Key, Sequence] = {}
        self._next_deadline = inf
        """No sequence has an earlier one."""
        self.preemptions_total = 0
        self.prefix_tokens_total = 0
        """Prompt tokens that were found in the cache."""

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def tokens_cached(self) -> int:
        """Room for tokens that running sequences hold; what they share counts once."""
        return self.pool.held * self.pool.size

    def __contains__(self, key: Key) -> bool:
        return key in self._running or key in self._waiting

    def add(self, sequence: Sequence) -> None:
        """Queues `sequence`. Raises ValueError if its key is known."""
        if sequence.key in self:
            raise ValueError(f"sequence {sequence.key!r} is known")
        self._waiting[sequence.key] = sequence
        if sequence.deadline is not None:
            self._next_deadline = min(self._next_deadline, sequence.deadline)

    def end(self, key: Key, reason: FinishReason) -> Output | None:
        """Ends a sequence wherever it is; None if it is unknown or ended."""
        sequence = self._waiting.get(key) or self._running.get(key)
        return self._end(sequence, reason) if sequence else None

    def end_all(self, reason: FinishReason) -> list[Output]:
        return [output for key in [*self._running, *self._waiting] if (output := self.end(key, reason))]

    def expire(self, now: float) -> list[Output]:
        """Ends what has outlived its deadline."""
        if now < self._next_deadline:
            return []
        deadlines = {s.key: s.deadline for s in (*self._running.values(), *self._waiting.values()) if s.deadline is not None}
        self._next_deadline = min((at for at in deadlines.values() if at > now), default=inf)
        late = [key for key, at in deadlines.items() if at <= now]
        return [output for key in late if (output := self.end(key, "deadline"))]

    def _end(self, sequence: Sequence, reason: FinishReason) -> Output:
        self._waiting.pop(sequence.key, None)
        self._running.pop(sequence.key, None)
        sequence.finish = reason
        self._give_up(sequence)
        return Output(sequence.key, finish=reason)

    def _admit_waiting(self) -> None:
        while self._waiting and self._free_slots and self._admit(next(iter(self._waiting.values()))):
            pass

    def _admit(self, sequence: Sequence) -> bool:
        """Moves the first that waits to the running ones, if its blocks are free and one more for each that runs."""
        if not try_hold(self.pool, sequence, reserve=len(self._running)):
            return False
        self.prefix_tokens_total += sequence.computed
        sequence.slot = heapq.heappop(self._free_slots)
        self._running[sequence.key] = self._waiting.pop(sequence.key)
        return True

    def _grow(self, sequence: Sequence) -> bool:
        """Sees to a block for the next token; False if the sequence itself had to give way."""
        while sequence.computed >= len(sequence.blocks) * self.pool.size:
            if self.pool.free:
                sequence.blocks.append(self.pool.allocate(sequence.blocks[-1]))
            else:
                youngest = next(reversed(self._running.values()))
                self._preempt(youngest)
                if youngest is sequence:
                    return False
        return True

    def _preempt(self, sequence: Sequence) -> None:
        del self._running[sequence.key]
        self._give_up(sequence)
        self._waiting = {sequence.key: sequence, **self._waiting}
        self.preemptions_total += 1

    def _give_up(self, sequence: Sequence) -> None:
        let_go(self.pool, sequence)
        if sequence.slot is not None:
            heapq.heappush(self._free_slots, sequence.slot)
            sequence.slot = None

"""Which tokens of which sequences the next step computes. Pure: no torch, no clock, no threads, no text.

Why it exists: continuous batching is decided here and nowhere else, so that it can be tested by a thousand random
histories. Rules:

* A step has one budget: a token for every slot, and `chunk`. Every running sequence decodes one token, first of all; then
  prompts are computed, oldest arrival first, at most `chunk` tokens of them, or `burst` while nobody waits for a token.
* A sequence runs from its admission to its end, in order of arrival, with a slot and with the blocks of all its tokens.
  Blocks that hold its beginning already are shared instead of computed (`blocks`).
* When a decoding sequence finds no block, the youngest gives up its own and waits again, first in line; what it had is
  computed anew. The oldest never does, and all blocks suffice for any one, so everybody comes to an end.
* A sequence with a seed is computed in the same pieces whatever the company, so its roundings are the same: its chunks
  begin at multiples of `chunk`, it shares no prefix, and after a preemption its answer is computed token by token.
* `plan` may be called while one step runs. A sequence that ends for any reason (finish, cancel, deadline) gives all back
  at once, also then: whoever gets its blocks writes after that step, and commit ignores what the step made.
"""

import heapq
from collections.abc import Iterable

from localmodel.api.channel import FinishReason
from localmodel.engine.blocks import BlockPool
from localmodel.engine.sequence import GREEDY, Key, Output, Sequence, Work

__all__ = ["GREEDY", "Key", "Output", "Scheduler", "Sequence", "Work"]


class Scheduler:
    """Sequences waiting and running, both in order of arrival. Not thread-safe: the engine holds its lock around every call."""

    def __init__(self, slots: int, chunk: int, pool: BlockPool, *, burst: int = 0) -> None:
        """`pool` holds at least one sequence of the whole context window."""
        self.pool = pool
        self._chunk = chunk
        self._burst = max(burst, chunk)
        self._free_slots = list(range(slots))
        self._waiting: dict[Key, Sequence] = {}
        self._running: dict[Key, Sequence] = {}
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
        """Of running sequences; a shared one counts for each."""
        return sum(sequence.computed for sequence in self._running.values())

    def __contains__(self, key: Key) -> bool:
        return key in self._running or key in self._waiting

    def add(self, sequence: Sequence) -> None:
        """Queues `sequence`. Raises ValueError if its key is known."""
        if sequence.key in self:
            raise ValueError(f"sequence {sequence.key!r} is known")
        self._waiting[sequence.key] = sequence

    def end(self, key: Key, reason: FinishReason) -> Output | None:
        """Ends a sequence wherever it is; None if it is unknown or ended."""
        sequence = self._waiting.pop(key, None) or self._running.pop(key, None)
        if sequence is None:
            return None
        sequence.finish = reason
        self._give_up(sequence)
        return Output(key, finish=reason)

    def end_all(self, reason: FinishReason) -> list[Output]:
        return [output for key in [*self._running, *self._waiting] if (output := self.end(key, reason))]

    def expire(self, now: float) -> list[Output]:
        """Ends what has outlived its deadline."""
        everyone = [*self._running.values(), *self._waiting.values()]
        late = [s.key for s in everyone if s.deadline is not None and s.deadline <= now]
        return [output for key in late if (output := self.end(key, "deadline"))]

    def plan(self) -> list[Work]:
        """The next step, decoding first; empty when there is nothing to do."""
        while self._waiting and self._free_slots and self._admit(next(iter(self._waiting.values()))):
            pass
        decode = []
        for sequence in list(self._running.values()):
            if sequence.slot is not None and self._may_decode(sequence) and self._grow(sequence):
                decode.append(self._work(sequence, 1))
        prefill = []
        budget = self._chunk if decode else self._burst
        for sequence in self._running.values():
            left = sequence.length - sequence.computed
            if left == 0 or self._decodes(sequence):
                continue
            count = min(left, budget)
            if sequence.sampling.seed is not None:
                piece = min(len(sequence.prompt) - sequence.computed, self._chunk - sequence.computed % self._chunk)
                count = piece if piece <= budget else 0
            if count == 0:
                break  # nobody later may overtake the oldest prompt
            budget -= count
            prefill.append(self._work(sequence, count))
        return decode + prefill

    def commit(self, works: Iterable[Work], tokens: Iterable[int]) -> list[Output]:
        """Takes in a step that was computed: `tokens`, one for each work that samples, in order."""
        chosen = iter(tokens)
        outputs = []
        for work in works:
            token = next(chosen) if work.samples else None
            sequence = work.sequence
            if sequence.finish is not None:
                continue
            if work.life == sequence.life:
                self._remember(sequence, work.start + work.count)
            if token is None:
                continue
            sequence.pending -= 1
            if sequence.failure:
                self.end(sequence.key, "error")
                outputs.append(Output(sequence.key, finish="error", error=sequence.failure))
                continue
            sequence.answer.append(token)
            reason: FinishReason | None = None
            if token in sequence.stop_tokens:
                reason = "stop"
            elif len(sequence.answer) >= sequence.max_tokens:
                reason = "length"
            if reason:
                self.end(sequence.key, reason)
            logprob = sequence.logprobs.popleft() if sequence.logprobs else None
            outputs.append(Output(sequence.key, token, reason, logprob))
        return outputs

    def _admit(self, sequence: Sequence) -> bool:
        """Moves the first that waits to the running ones, if its blocks are free and one more for each that runs."""
        shared = self._find_prefix(sequence)
        needed = self.pool.blocks_for(sequence.length) - len(shared)
        kept = sum(self.pool.is_kept(block) for block in shared)
        if self.pool.free - kept - needed < len(self._running):
            return False
        for block in shared:
            self.pool.hold(block)
        sequence.blocks = list(shared)
        own: int | None = None
        for _ in range(needed):
            own = self.pool.allocate(own)
            sequence.blocks.append(own)
        sequence.computed = len(shared) * self.pool.size
        sequence.remembered = len(shared)
        self.prefix_tokens_total += sequence.computed
        sequence.slot = heapq.heappop(self._free_slots)
        self._running[sequence.key] = self._waiting.pop(sequence.key)
        return True

    def _find_prefix(self, sequence: Sequence) -> list[int]:
        """Blocks with the beginning of its tokens, at least one of which is left to compute."""
        found: list[int] = []
        if sequence.sampling.seed is None:
            for number in range((sequence.length - 1) // self.pool.size):
                block = self.pool.find(sequence.digest(number, self.pool.size))
                if block is None:
                    break
                found.append(block)
        return found

    def _decodes(self, sequence: Sequence) -> bool:
        """Its next token comes alone: only the last one is left, or it has a seed and its answer is computed anew."""
        if sequence.computed < len(sequence.prompt):
            return False
        return sequence.computed + 1 == sequence.length or sequence.sampling.seed is not None

    def _may_decode(self, sequence: Sequence) -> bool:
        """Not if the running step chooses the last token that was asked for."""
        return self._decodes(sequence) and len(sequence.answer) + sequence.pending < sequence.max_tokens

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
        self.pool.release(sequence.blocks)
        sequence.blocks = []
        sequence.computed = sequence.remembered = 0
        sequence.life += 1
        if sequence.slot is not None:
            heapq.heappush(self._free_slots, sequence.slot)
            sequence.slot = None

    def _work(self, sequence: Sequence, count: int) -> Work:
        assert sequence.slot is not None
        start = sequence.computed
        sequence.computed += count
        samples = sequence.computed == sequence.length
        sequence.pending += samples
        return Work(sequence, sequence.slot, start, count, samples, sequence.life, sequence.blocks)

    def _remember(self, sequence: Sequence, computed: int) -> None:
        for number in range(sequence.remembered, computed // self.pool.size):
            self.pool.remember(sequence.blocks[number], sequence.digest(number, self.pool.size))
            sequence.remembered = number + 1

"""Which tokens of which sequences the next step computes. Pure: no torch, no clock, no threads, no text.

Why it exists: continuous batching is decided here and nowhere else, so that it can be tested by a thousand random
histories. Rules:

* A step has one budget. Every running sequence decodes one token, first of all; then prompts are computed, oldest arrival
  first, at most `chunk` tokens of them (or what `beside` says for so many that decode), or `burst` while nobody waits for a
  token.
* A sequence runs from its admission to its end, in order of arrival, with a slot and with the blocks of all its tokens.
  Blocks that hold its beginning already are shared instead of computed (`blocks`).
* When a decoding sequence finds no block, the youngest gives up its own and waits again, first in line; what it had is
  computed anew. The oldest never does, and all blocks suffice for any one, so everybody comes to an end.
* A sequence with a seed is computed in the same pieces whatever the company, so its roundings are the same: its chunks
  begin at multiples of `chunk`, it shares no prefix, and after a preemption its answer is computed token by token. The first
  prompt of a step may be such a chunk though the budget is less.
* Where guesses pay (`speculation`), a sequence decodes its last token and guessed ones behind it; those that turn out to
  be what would have been chosen are kept. Guesses take no block that somebody may need. Such a step is committed before
  the next is planned.
* Else `plan` may be called while one step runs. A sequence that ends for any reason (finish, cancel, deadline) gives all back
  at once, also then: whoever gets its blocks writes after that step, and commit ignores what the step made.
"""

import heapq
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice

from localmodel.api.channel import FinishReason
from localmodel.engine.blocks import BlockPool
from localmodel.engine.holding import let_go, make_room, remember, try_hold
from localmodel.engine.sequence import GREEDY, Key, Output, Sequence, Work
from localmodel.engine.speculation import Speculation
from localmodel.engine.verification import keep_tokens

__all__ = ["GREEDY", "Key", "Output", "Scheduler", "Sequence", "Work"]


class Scheduler:
    """Sequences waiting and running, both in order of arrival. Not thread-safe: the engine holds its lock around every call."""

    def __init__(
        self, slots: int, chunk: int, pool: BlockPool, *, burst: int = 0, beside: Callable[[int], int] | None = None,
        speculation: Speculation | None = None,
    ) -> None:  # fmt: skip
        """`pool` holds at least one sequence of the whole context window; `beside`: prompt tokens of a step in which so many
        sequences decode, >= 1, by default `chunk`."""
        self.pool = pool
        self.speculation = speculation
        self._chunk = chunk
        self._burst = max(burst, chunk)
        self._beside = beside or (lambda decoding: chunk)
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
        sequence = self._waiting.get(key) or self._running.get(key)
        return self._end(sequence, reason) if sequence else None

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
        decoding = [
            sequence
            for sequence in list(self._running.values())
            if sequence.slot is not None and self._may_decode(sequence) and self._grow(sequence)
        ]
        drafts = self._draft(decoding)
        decode = [self._work(sequence, 1, drafts.get(sequence, ())) for sequence in decoding]
        prefill = []
        budget = self._beside(len(decode)) if decode else self._burst
        for sequence in self._running.values():
            left = sequence.length - sequence.computed
            if left <= 0 or self._decodes(sequence):
                continue
            count = min(left, budget)
            if sequence.sampling.seed is not None:
                piece = min(len(sequence.prompt) - sequence.computed, self._chunk - sequence.computed % self._chunk)
                count = piece if piece <= budget or not prefill else 0
            if count == 0:
                break  # nobody later may overtake the oldest prompt
            budget = max(0, budget - count)
            prefill.append(self._work(sequence, count))
        return decode + prefill

    def commit(self, works: Iterable[Work], tokens: Iterable[int], seconds: float | None = None) -> list[Output]:
        """Takes in a step that was computed: `tokens` in order, `Work.choices` of each work; `seconds` it took, if nothing
        ran beside it."""
        works = list(works)
        if self.speculation and seconds is not None and all(work.decodes for work in works):
            self.speculation.cost.note(sum(work.count for work in works), seconds)
        chosen = iter(tokens)
        outputs = []
        for work in works:
            sequence, made = work.sequence, list(islice(chosen, work.choices))
            if sequence.finish is not None:
                continue
            if sequence.failure and made:
                outputs.append(replace(self._end(sequence, "error"), error=sequence.failure))
            else:
                outputs += self._take_in(work, made)
        return outputs

    def _take_in(self, work: Work, made: list[int]) -> list[Output]:
        sequence = work.sequence
        sequence.pending -= bool(made)
        outputs = keep_tokens(work, made) if made else []
        dropped = len(made) - len(outputs)
        if self.speculation and work.draft:
            self.speculation.note(drafted=len(work.draft), accepted=len(outputs) - 1)
        if work.life == sequence.life:
            sequence.computed -= dropped
            remember(self.pool, sequence, work.start + work.count - dropped)
        if outputs and (reason := outputs[-1].finish):
            self._end(sequence, reason)
        return outputs

    def _end(self, sequence: Sequence, reason: FinishReason) -> Output:
        self._waiting.pop(sequence.key, None)
        self._running.pop(sequence.key, None)
        sequence.finish = reason
        self._give_up(sequence)
        return Output(sequence.key, finish=reason)

    def _admit(self, sequence: Sequence) -> bool:
        """Moves the first that waits to the running ones, if its blocks are free and one more for each that runs."""
        if not try_hold(self.pool, sequence, reserve=len(self._running)):
            return False
        self.prefix_tokens_total += sequence.computed
        sequence.slot = heapq.heappop(self._free_slots)
        self._running[sequence.key] = self._waiting.pop(sequence.key)
        return True

    def _decodes(self, sequence: Sequence) -> bool:
        """Its next token comes alone: only the last one is left, or it has a seed and its answer is computed anew."""
        if sequence.computed < len(sequence.prompt):
            return False
        return sequence.computed + 1 == sequence.length or sequence.sampling.seed is not None

    def _may_decode(self, sequence: Sequence) -> bool:
        """Not if the running step chooses the last token that was asked for."""
        return self._decodes(sequence) and len(sequence.answer) + sequence.pending < sequence.max_tokens

    def _draft(self, decoding: list[Sequence]) -> dict[Sequence, list[int]]:
        """Guesses worth verifying, as far as there are blocks to spare."""
        if self.speculation is None:
            return {}
        known = [sequence for sequence in decoding if sequence.computed + 1 == sequence.length]
        assert not any(sequence.pending for sequence in known), "a step that may hold drafts was not committed"
        drafts = zip(known, self.speculation.draft(known, len(decoding)), strict=True)
        spare = len(self._running)
        return {s: draft[: make_room(self.pool, s, 1 + len(draft), spare) - 1] for s, draft in drafts if draft}

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

    def _work(self, sequence: Sequence, count: int, draft: Iterable[int] = ()) -> Work:
        assert sequence.slot is not None
        start, draft = sequence.computed, tuple(draft)
        samples = start + count == sequence.length
        sequence.computed += count + len(draft)
        sequence.pending += samples
        return Work(sequence, sequence.slot, start, count + len(draft), samples, sequence.life, sequence.blocks, draft)

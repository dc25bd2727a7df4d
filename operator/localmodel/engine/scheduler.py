"""Which tokens of which sequences the next step computes. Pure: no torch, no clock, no threads, no text.

Why it exists: continuous batching is decided here and nowhere else, so that it can be tested by a thousand random
histories. Rules:

* A step has one budget. Every running sequence decodes one token, first of all; then prompts are computed, oldest arrival
  first, at most `chunk` tokens of them (or what `beside` says), or `burst` while nobody waits for a token.
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
from itertools import islice
from math import inf

from localmodel.api.channel import FinishReason
from localmodel.engine.blocks import BlockPool
from localmodel.engine.holding import let_go, make_room, remember, try_hold
from localmodel.engine.sequence import GREEDY, Key, Output, Sequence, Work
from localmodel.engine.speculation import Speculation
from localmodel.engine.verification import keep_token, keep_tokens

__all__ = ["GREEDY", "Key", "Output", "Scheduler", "Sequence", "Work"]


class Scheduler:
    """Sequences waiting and running, both in order of arrival. Not thread-safe: the engine holds its lock around every call."""

    def __init__(
        self, slots: int, chunk: int, pool: BlockPool, *, burst: int = 0, beside: Callable[[int, int], int] | None = None,
        speculation: Speculation | None = None,
    ) -> None:  # fmt: skip
        """`pool` holds at least one sequence of the whole context window; `beside`: prompt tokens of a step in which so many
        sequences decode and whose first prompt goes on at such a position; >= 1, by default `chunk`."""
        self.pool = pool
        self.speculation = speculation
        self._chunk = chunk
        self._burst = max(burst, chunk)
        self._beside = beside or (lambda decoding, start: chunk)
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
        """Of running sequences; a shared one counts for each."""
        return sum(sequence.computed for sequence in self._running.values())

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

    def plan(self) -> list[Work]:
        """The next step, decoding first; empty when there is nothing to do."""
        while self._waiting and self._free_slots and self._admit(next(iter(self._waiting.values()))):
            pass
        decoding, prompts = self._sort_running()
        drafts = self._draft(decoding)
        decode = [sequence.plan(1, drafts.get(sequence, ())) for sequence in decoding]
        prefill = []
        prompts = [sequence for sequence in prompts if sequence.slot is not None and sequence.length > sequence.computed]
        budget = self._beside(len(decode), prompts[0].computed) if decode and prompts else self._burst
        for sequence in prompts:
            left = sequence.length - sequence.computed
            count = min(left, budget)
            if sequence.sampling.seed is not None:
                piece = min(len(sequence.prompt) - sequence.computed, self._chunk - sequence.computed % self._chunk)
                count = piece if piece <= budget or not prefill else 0
            if count == 0:
                break  # nobody later may overtake the oldest prompt
            budget = max(0, budget - count)
            prefill.append(sequence.plan(count))
        return decode + prefill

    def commit(self, works: Iterable[Work], tokens: Iterable[int], seconds: float | None = None) -> list[Output]:
        """Takes in a step that was computed: `tokens` in order, `Work.choices` of each work; `seconds` it took, if nothing
        ran beside it."""
        works = list(works)
        if self.speculation and seconds is not None and all(work.decodes for work in works):
            self.speculation.cost.note(sum(work.count for work in works), seconds)
        chosen = iter(tokens)
        outputs: list[Output] = []
        for work in works:
            sequence, _, start, count, samples, life, _, draft = work
            made = list(islice(chosen, 1 + len(draft))) if draft else [next(chosen)] if samples else ()
            if sequence.finish is not None:
                continue
            if made and sequence.failure:
                outputs.append(self._end(sequence, "error")._replace(error=sequence.failure))
                continue
            if draft:
                kept = keep_tokens(work, made)
                outputs += kept
                count -= len(made) - len(kept)
                if self.speculation:
                    self.speculation.note(drafted=len(draft), accepted=len(kept) - 1)
            elif made:
                sequence.pending -= 1
                outputs.append(keep_token(sequence, made[0]))
            if life == sequence.life and (start + count) // self.pool.size > sequence.remembered:
                remember(self.pool, sequence, start + count)
            if made and (reason := outputs[-1].finish):
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

    def _sort_running(self) -> tuple[list[Sequence], list[Sequence]]:
        """(those that decode now and have a block for it, those with more to compute).

        The next token of a sequence comes alone if only the last one is left, or if it has a seed and its answer is computed
        anew; not if the running step chooses the last token that was asked for. One of the second may have given way.
        """
        decoding, prompts = [], []
        size = self.pool.size
        for sequence in list(self._running.values()):
            computed, answered = sequence.computed, len(sequence.answer) + sequence.pending
            after_prompt = computed - len(sequence.prompt)
            if after_prompt < 0 or (after_prompt + 1 != answered and sequence.sampling.seed is None):
                prompts.append(sequence)
            elif (
                answered < sequence.max_tokens
                and sequence.slot is not None
                and (computed < len(sequence.blocks) * size or self._grow(sequence))
            ):
                decoding.append(sequence)
        return decoding, prompts

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

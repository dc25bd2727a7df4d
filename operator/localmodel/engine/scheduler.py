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
  the next is planned, and so is the one before it (`would_draft`).
* Else `plan` may be called while one step runs. A sequence that ends for any reason (finish, cancel, deadline) gives all back
  at once, also then: whoever gets its blocks writes after that step, and commit ignores what the step made.
"""

from collections.abc import Callable, Iterable
from itertools import islice

from localmodel.engine.blocks import BlockPool
from localmodel.engine.holding import make_room, remember
from localmodel.engine.roster import Roster
from localmodel.engine.sequence import GREEDY, Key, Output, Sequence, Work
from localmodel.engine.speculation import Speculation
from localmodel.engine.verification import keep_token, keep_tokens

__all__ = ["GREEDY", "Key", "Output", "Scheduler", "Sequence", "Work"]


class Scheduler(Roster):
    """Not thread-safe: the engine holds its lock around every call."""

    def __init__(
        self, slots: int, chunk: int, pool: BlockPool, *, burst: int = 0, beside: Callable[[int, int], int] | None = None,
        speculation: Speculation | None = None,
    ) -> None:  # fmt: skip
        """`pool` holds at least one sequence of the whole context window; `beside`: prompt tokens of a step in which so many
        rows decode, guesses included, and whose first prompt goes on at such a position; >= 1, by default `chunk`."""
        super().__init__(slots, pool)
        self.speculation = speculation
        self._chunk = chunk
        self._burst = max(burst, chunk)
        self._beside = beside or (lambda decoding, start: chunk)

    def plan(self) -> list[Work]:
        """The next step: all works that have `decodes`, then the others. Empty when there is nothing to do."""
        self._admit_waiting()
        decoding, prompts = self._sort_running()
        drafts = self._draft(decoding)
        decode = [sequence.plan(1, drafts.get(sequence, ())) for sequence in decoding]
        prefill = []
        prompts = [sequence for sequence in prompts if sequence.slot is not None and sequence.length > sequence.computed]
        rows = sum(work.count for work in decode)
        budget = self._beside(rows, prompts[0].computed) if rows and prompts else self._burst
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
        if len(prefill) > 1:
            prefill.sort(key=lambda work: not work.decodes)  # an answer computed anew may have one token left of the budget
        return decode + prefill

    def would_draft(self) -> bool:
        """Whether guesses pay in the next step, if its plan waits until the running one is committed."""
        if self.speculation is None:
            return False
        decoding = [sequence for sequence in self._running.values() if sequence.computed >= len(sequence.prompt)]
        return self.speculation.pays(decoding, len(self._running) - len(decoding))

    def commit(self, works: Iterable[Work], tokens: Iterable[int], seconds: float | None = None) -> list[Output]:
        """Takes in a step that was computed: `tokens` in order, `Work.choices` of each work; `seconds` it took."""
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
        known = [sequence for sequence in decoding if sequence.computed + 1 == sequence.length and not sequence.pending]
        spare = len(self._running)
        drafts = zip(known, self.speculation.draft(known, len(decoding), spare - len(decoding)), strict=True)
        return {s: draft[: make_room(self.pool, s, 1 + len(draft), spare) - 1] for s, draft in drafts if draft}

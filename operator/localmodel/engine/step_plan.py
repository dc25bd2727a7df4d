"""One step's plan as a few numbers, for ranks that compute the same and choose nothing. Pure.

Why it exists: only the first rank schedules. What the others must know of a step is where its tokens lie, never which they are:
those come over the card (`collectives.take_from_first`). So a plan grows with the sequences of a step and their new blocks, and
not with their length. It must not know how it is sent.

Numbers are int32: the works of the step; WORDS of each; the new blocks of all, one after another.
"""

from collections.abc import Collection
from typing import cast

import numpy as np

from localmodel.api.channel import Sampling
from localmodel.engine.sequence import GREEDY, Sequence, Work

WORDS = 7
"""Slot, start, count, drafted tokens, flags, whether the slot begins anew, new blocks."""
SAMPLES, DECODES, SEEDED = 1, 2, 4
ANY_SEED = Sampling(temperature=0, seed=0)


class PlanWriter:
    """Knows which blocks of each slot the others have."""

    def __init__(self, slots: int) -> None:
        self._held: list[tuple[Sequence | None, int, int]] = [(None, 0, 0)] * slots

    def write(self, works: Collection[Work]) -> bytes:
        heads: list[int] = []
        blocks: list[int] = []
        for work in works:
            sequence, count = work.sequence, len(work.blocks)
            owner, life, known = self._held[work.slot]
            anew = owner is not sequence or life != work.life
            known = 0 if anew else known
            flags = SAMPLES * work.samples | DECODES * work.decodes | SEEDED * (sequence.sampling.seed is not None)
            heads += (work.slot, work.start, work.count, len(work.draft), flags, anew, count - known)
            blocks += work.blocks[known:]
            self._held[work.slot] = (sequence, work.life, count)
        return np.array([len(works), *heads, *blocks], dtype=np.int32).tobytes()


class PlanReader:
    """Makes works of the same shape, of sequences whose tokens are placeholders."""

    def __init__(self, slots: int) -> None:
        self._sequences = [Sequence(slot, (), 1) for slot in range(slots)]

    def read(self, plan: bytes) -> list[Work]:
        """Valid until the next is read."""
        numbers = np.frombuffer(plan, dtype=np.int32)
        end = 1 + int(numbers[0]) * WORDS
        blocks: list[int] = numbers[end:].tolist()
        works, at = [], 0
        for slot, start, count, drafted, flags, anew, new in numbers[1:end].reshape(-1, WORDS).tolist():
            if anew:
                self._sequences[slot] = Sequence(slot, (), 1)
            sequence = self._sequences[slot]
            length = start if flags & DECODES else start + count
            sequence.prompt = cast("tuple[int, ...]", range(length))  # as long, and no longer in memory
            sequence.answer = [0] if flags & DECODES else []
            sequence.sampling = ANY_SEED if flags & SEEDED else GREEDY
            sequence.blocks += blocks[at : at + new]
            at += new
            samples = bool(flags & SAMPLES)
            works.append(Work(sequence, slot, start, count, samples, 0, sequence.blocks, (0,) * drafted))
        return works

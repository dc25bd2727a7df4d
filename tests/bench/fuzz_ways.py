"""The ways in which an engine may come to the same answer: with others or alone, in pieces, computed anew, found, guessed.

For `fuzz_networks`, which compares the answers with those of transformers.
"""

import random
from collections import Counter
from dataclasses import dataclass, replace

from localmodel.api.channel import Sampling
from localmodel.engine.blocks import BlockPool
from localmodel.engine.engine import Engine, at_once
from localmodel.engine.loader import LoadedModel
from localmodel.engine.runner import Runner
from localmodel.engine.scheduler import Scheduler
from localmodel.engine.speculation import Speculation

TOKENS = 10
SHOWN = 3
"""Likeliest tokens whose log-probabilities are asked for."""


class Guesses(Speculation):
    """What was answered before, one token in four of it wrong."""

    def __init__(self, answers, vocabulary: int) -> None:
        super().__init__()
        self._answers, self._vocabulary, self._source = answers, vocabulary, random.Random(1)

    def draft(self, sequences, rows, others=0):
        return [self._guess(sequence) for sequence in sequences]

    def _guess(self, sequence):
        at = len(sequence.answer)
        truth = self._answers[sequence.key][at : sequence.max_tokens - 1][: self._source.randrange(6)]
        return [each.token if self._source.random() < 0.75 else (each.token + 1) % self._vocabulary for each in truth]


@dataclass(frozen=True)
class Way:
    chunk: int = 64
    size: int = 16
    """Tokens of a block."""
    tight: bool = False
    """Blocks for one sequence only."""
    together: bool = True
    twice: bool = False
    """The second answers count; the first left their blocks behind."""
    guess: bool = False
    seed: int | None = None


WAYS = {
    "batched": Way(),
    "alone": Way(together=False),
    "preempted": Way(size=1, tight=True),
    "preempted, seeded": Way(size=3, tight=True, seed=1),
    "pieces": Way(chunk=5, size=3),
    "pieces, seeded": Way(chunk=7, seed=1),
    "prefix": Way(twice=True),
    "prefix, small blocks": Way(size=2, twice=True),
    "guessed": Way(guess=True),
    "guessed, tight": Way(guess=True, size=2, tight=True, seed=1),
}


class Runs:
    """One loaded model, asked in several ways."""

    def __init__(self, model: LoadedModel, slots: int) -> None:
        self._model, self._slots = model, slots
        self._first = None
        self.seen = Counter()

    def answer(self, way: Way, prompts):
        """Outputs of each prompt."""
        cache, vocabulary = self._model.cache, self._model.network_config.vocabulary
        needed = -(-cache.context // way.size)
        blocks = needed if way.tight else min(cache.tokens // way.size, needed * self._slots)
        cache = replace(cache, blocks=blocks, block_size=way.size)
        pool = BlockPool(blocks, way.size, contiguous=True)
        guesses = Guesses(self._first, vocabulary) if way.guess else None
        scheduler = Scheduler(self._slots, way.chunk, pool, speculation=guesses)
        engine = Engine(
            at_once(Runner(self._model.network, cache, vocabulary).run), scheduler, slots=self._slots, context=cache.context,
            vocabulary=vocabulary, stop_tokens=self._model.directory.stop_tokens,
        )  # fmt: skip
        answers = [[] for _ in prompts]
        for _ in range(1 + way.twice):
            answers = [[] for _ in prompts]
            for keys in [range(len(prompts))] if way.together else [[key] for key in range(len(prompts))]:
                for key in keys:
                    sampling = Sampling(temperature=0, max_tokens=TOKENS, ignore_eos=True, logprobs=SHOWN, seed=way.seed)
                    engine.add_request(key, prompts[key], sampling)
                while any(engine.load()[:2]):
                    for output in engine.step():
                        answers[output.key].append(output)
        assert pool.held == 0, "blocks are left held"
        self._first = self._first or [[output.logprob for output in each] for each in answers]
        self.seen += Counter(
            preemptions=scheduler.preemptions_total, prefix=scheduler.prefix_tokens_total,
            guessed=guesses.accepted_tokens_total if guesses else 0,
        )  # fmt: skip
        return answers

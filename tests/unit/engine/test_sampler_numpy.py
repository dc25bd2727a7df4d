"""Which token each number in [0, 1) gives, and its log-probabilities, against numpy in float64: exactly, not in the long run."""

import math
import random

import numpy as np
import pytest
import torch

from localmodel.api.channel import Sampling
from localmodel.engine.constraint import ALL_ALLOWED
from localmodel.engine.sampler import Sampler
from localmodel.engine.sequence import Sequence

ROUNDING = 2e-5
"""Of shares that float32 adds up; borders so near to a number may fall to either side."""


class Only:
    """A constraint that allows some tokens."""

    def __init__(self, tokens):
        self.tokens = tokens

    def fill_mask(self, answer, mask):
        mask[:] = 0
        for token in self.tokens:
            mask.view(np.uint32)[token // 32] |= np.uint32(1 << token % 32)

    def look_ahead(self, draft, masks):
        masks[:] = ALL_ALLOWED


def draw_sampling(source, vocabulary):
    some = {
        "top_p": source.choice([0.05, 0.5, 0.9, 0.999]), "top_k": source.choice([1, 5, 50, 280, vocabulary, vocabulary + 9]),
        "min_p": source.choice([1e-6, 0.01, 0.2, 1.0]), "presence_penalty": source.choice([-2, -0.5, 0.3, 2]),
        "frequency_penalty": source.choice([-2, -0.1, 0.7, 2]), "logprobs": source.randint(0, 20),
        "logit_bias": {source.randrange(vocabulary): source.choice([-100, 100, 3.5, -2]) for _ in range(3)},
    }  # fmt: skip
    asked = {key: value for key, value in some.items() if source.random() < 0.35}
    return Sampling(temperature=source.choice([0, 0.1, 0.7, 1, 2]), **asked)


def adjust(logits, sampling, answer, allowed):
    """[V] float64: the logits with biases, penalties and the mask."""
    adjusted = logits.astype(np.float64)
    for token, bias in sampling.logit_bias.items():
        adjusted[token] += bias
    for token in answer:
        adjusted[token] -= sampling.frequency_penalty
    adjusted[list(set(answer))] -= sampling.presence_penalty
    if allowed is not None:
        hidden = np.ones(len(adjusted), bool)
        hidden[allowed] = False
        adjusted[hidden] = -np.inf
    return adjusted


def shares(adjusted, sampling):
    """[V] float64, what top_k, top_p and min_p leave, equals of the last one too."""
    scaled = adjusted / sampling.temperature
    whole = np.exp(scaled - scaled.max())
    whole /= whole.sum()
    falling = np.sort(whole)[::-1][: sampling.top_k or None]
    before = (np.cumsum(falling) - falling) / falling.sum()
    least = falling[max(0, int((before < sampling.top_p).sum()) - 1)]
    kept = np.where((whole >= least) & (whole >= sampling.min_p * whole.max()), whole, 0)
    return kept / kept.sum()


def may_give(token, number, adjusted, sampling):
    if sampling.temperature == 0:
        return adjusted[token] >= adjusted.max() - 1e-5 * max(1, abs(adjusted.max()))
    for by in (0, ROUNDING, -ROUNDING):
        near = {"top_p": min(1.0, sampling.top_p + by), "min_p": min(1.0, sampling.min_p * (1 + by))}
        edges = np.cumsum(shares(adjusted, sampling.model_copy(update=near)))
        if (edges[token - 1] if token else 0) - ROUNDING <= number <= edges[token] + ROUNDING:
            return True
    return False


@pytest.mark.parametrize("seed", range(60))
def test_each_row_gets_the_token_that_its_number_stands_for(seed):
    source, noise = random.Random(seed), torch.Generator().manual_seed(seed)
    vocabulary, rows = source.choice([5, 33, 255, 256, 257, 513, 1000]), source.randint(1, 8)
    dtype = source.choice([torch.float32, torch.float32, torch.bfloat16])
    logits = (torch.randn(rows, vocabulary, generator=noise) * source.choice([0.01, 1, 4, 15])).to(dtype)
    asked = []
    for _ in range(rows):
        number = source.choice([0.0, 1 - 2**-53, *(source.random() for _ in range(5))])
        allowed = sorted({source.randrange(vocabulary) for _ in range(9)}) if source.random() < 0.25 else None
        sequence = Sequence(
            "k", (1,), 99, sampling=draw_sampling(source, vocabulary), uniform=lambda number=number: number,
            constraint=None if allowed is None else Only(allowed),
        )  # fmt: skip
        sequence.answer += [source.randrange(vocabulary) for _ in range(source.choice([0, 1, 30]))]
        asked.append((sequence, number, allowed))
    sampler = Sampler(vocabulary, torch.device("cpu"))
    tokens = sampler.sample(logits, sampler.prepare([sequence for sequence, _, _ in asked])).report()
    for row, token, (sequence, number, allowed) in zip(logits.float().numpy(), tokens, asked, strict=True):
        sampling = sequence.sampling
        assert may_give(token, number, adjust(row, sampling, sequence.answer, allowed), sampling), (token, number, sampling)
        if sampling.logprobs is not None:
            expected = row.astype(np.float64) - math.log(np.exp(row.astype(np.float64)).sum())
            found = sequence.logprobs.popleft()
            assert found.logprob == pytest.approx(expected[token], abs=1e-4)
            assert [value for _, value in found.top] == pytest.approx(np.sort(expected)[::-1][: sampling.logprobs], abs=1e-4)
            assert all(value == pytest.approx(expected[each], abs=1e-4) for each, value in found.top)

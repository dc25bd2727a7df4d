"""The sampler on a CUDA card: the same tokens as on the CPU, and a row's token whatever rows are beside it."""

import random

import numpy as np
import pytest
import torch

from localmodel.api.channel import Sampling
from localmodel.engine.sampler import Sampler
from localmodel.engine.sequence import Sequence

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card")]
ROWS, VOCABULARY = 96, 152_064
SETTINGS = [
    {"temperature": 0}, {}, {"temperature": 0.7, "top_p": 0.9}, {"top_k": 40}, {"top_k": 500, "top_p": 0.95}, {"min_p": 0.05},
    {"presence_penalty": 1.5, "frequency_penalty": 0.5}, {"logit_bias": {5: 30.0, 9: -100.0}}, {"temperature": 2, "top_p": 0.999},
    {"temperature": 0, "logprobs": 5}, {"logprobs": 2, "top_p": 0.5},
]  # fmt: skip


class Even:
    """Allows the even tokens."""

    def fill_mask(self, answer, mask):
        mask[:] = np.uint32(0x55555555).view(np.int32)


def sequences():
    made = []
    for row in range(ROWS):
        sampling = Sampling(**SETTINGS[row % len(SETTINGS)])
        sequence = Sequence(row, (1,), 99, sampling=sampling, uniform=random.Random(row).random)
        sequence.answer += [row, row, row + 1]
        sequence.constraint = Even() if row % 5 == 0 else None
        made.append(sequence)
    return made


def choose(logits, some):
    sampler = Sampler(VOCABULARY, logits.device)
    return sampler.sample(logits, sampler.prepare(some)).report()


def test_the_card_chooses_what_the_cpu_chooses_in_any_company():
    torch.manual_seed(1)
    logits = (torch.randn(ROWS, VOCABULARY) * 3).bfloat16()  # many are equal
    on_cpu, on_card = sequences(), sequences()
    expected = choose(logits, on_cpu)
    card = logits.cuda()
    together = choose(card, on_card)
    # sums of 152,064 numbers are rounded otherwise there; a draw lands on another token once in ten thousand times
    assert sum(a != b for a, b in zip(together, expected, strict=True)) <= 1
    alone = [choose(card[row : row + 1], [sequence])[0] for row, sequence in enumerate(sequences())]
    assert alone == together
    assert choose(card[40:], sequences()[40:]) == together[40:]
    assert all(token % 2 == 0 for token in together[::5])
    for first, second in zip(on_cpu, on_card, strict=True):
        for a, b in zip(first.logprobs, second.logprobs, strict=True):
            assert [p for _, p in a.top] == pytest.approx([p for _, p in b.top], abs=1e-3)

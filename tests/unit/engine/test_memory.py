"""What is predicted covers what torch's allocator holds at most, to the byte."""

import pytest
import torch

from allocations import peak_bytes
from localmodel.api.channel import Sampling
from localmodel.engine.memory import SORTED_AT_ONCE, sampling_bytes
from localmodel.engine.sampler import Sampler
from localmodel.engine.sequence import Sequence
from random_models import ALL_AT_ONCE, Everything

CPU = torch.device("cpu")
FEW = 20_000
"""Bytes for what does not grow with the vocabulary."""


@pytest.mark.parametrize("spread", [0.0, 4.0], ids=["equal", "apart"])
@pytest.mark.parametrize(("rows", "vocabulary"), [(12, 999), (1, SORTED_AT_ONCE + 300), (30, 40_192)])
def test_choosing_takes_no_more_than_predicted(rows, vocabulary, spread):
    logits = (torch.randn(rows, vocabulary) * spread).bfloat16()
    sampler = Sampler(vocabulary, CPU)
    predicted, taken = sampling_bytes(rows, vocabulary), []
    for asked in ({"temperature": 1}, {"temperature": 1, "top_k": 50}, ALL_AT_ONCE):
        sequences = [
            Sequence(row, (0,), 9, sampling=Sampling(**asked), answer=[0, 0], constraint=Everything()) for row in range(rows)
        ]
        taken.append(peak_bytes(lambda: sampler.sample(logits, sampler.prepare(sequences))))  # noqa: B023
    assert 0.4 * predicted < max(taken) <= predicted + FEW

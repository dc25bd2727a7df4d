"""What is predicted covers what torch's allocator holds at most, to the byte."""

import pytest
import torch

from allocations import peak_bytes
from localmodel.api.channel import Sampling
from localmodel.engine.host_memory import host_bytes
from localmodel.engine.loader import load_model
from localmodel.engine.memory import SORTED_AT_ONCE, activation_bytes, sampling_bytes
from localmodel.engine.sampler import Sampler
from localmodel.engine.sequence import Sequence
from localmodel.engine.service import build_engine
from localmodel.engine.speculation import MOST_ROWS
from random_models import ALL_AT_ONCE, Everything, Limits, draw, drive, write_model

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
    assert 0.3 * predicted < max(taken) <= predicted + FEW


@pytest.mark.parametrize("seed", range(24))
def test_serving_takes_no_more_than_predicted(seed, tmp_path, nearest_values):
    """A random network with random limits, driven to its worst."""
    drawn = draw(seed, Limits(vocabulary=3000, context=120, slots=4, tokens=240))
    write_model(drawn, tmp_path)
    model = load_model(drawn.engine_config(tmp_path, "cpu", None))
    engine = build_engine(model)
    rows, element = drawn.slots + MOST_ROWS, model.cache.keys.element_size()
    predicted = activation_bytes(model.network_config, rows + model.burst, rows, element) + host_bytes(
        model.network_config, context=drawn.context, chunk=model.burst, element_bytes=element, tokenizer_file_bytes=0
    )
    taken = peak_bytes(lambda: drive(engine, drawn))
    assert taken <= predicted + FEW

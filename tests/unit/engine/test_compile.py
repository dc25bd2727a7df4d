"""What `compile` asks for: which steps there are to capture on a card, and that a CPU does the same in each mode."""

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_runs import make_prompts, run_greedy
from localmodel.api.engine import Compile
from localmodel.engine.card_steps import MOST_PROMPTS, fit_step
from localmodel.engine.loader import load_model
from localmodel.engine.service import build_engine
from localmodel.engine.step_list import list_steps


@settings(max_examples=500, deadline=None)
@given(st.data(), st.integers(1, 600), st.integers(2, 20_000))
def test_every_step_that_may_come_is_in_the_list(data, slots, context):
    listed = list_steps(slots, context)
    decoding = data.draw(st.integers(0, slots))
    prompts = data.draw(st.lists(st.integers(1, 400), min_size=1, max_size=MOST_PROMPTS))
    longest = data.draw(st.integers(1, context))
    shape = fit_step(decoding, prompts, longest, slots=slots, context=context)
    assert shape is None or shape in listed


def test_the_list_is_short_and_begins_with_the_largest():
    for slots, context, most in ((1, 512, 12), (16, 4096, 24), (256, 32768, 72)):
        rows = [shape.decoding + shape.prompts for shape in list_steps(slots, context)]
        assert rows == sorted(rows, reverse=True) and 4 <= len(set(list_steps(slots, context))) == len(rows) <= most


@pytest.mark.parametrize("mode", get_args(Compile))
def test_on_a_cpu_all_modes_are_the_same(engine_config, mode):
    prompts = make_prompts(3, 2, 40)
    expected = run_greedy(build_engine(load_model(engine_config("llama"))), prompts)
    assert run_greedy(build_engine(load_model(engine_config("llama", compile=mode))), prompts) == expected

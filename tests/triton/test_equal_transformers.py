"""Prompts of real text on the real weights in float32: the same greedy tokens as transformers, however they are run.

`python -m bench.equal_tokens` is the same with a thousand.
"""

import pytest
import torch
from tokenizers import Tokenizer

from bench.equal_tokens import WAYS, load, make_prompts, reference

pytestmark = pytest.mark.triton

PROMPTS = 60


@pytest.fixture(scope="module")
def asked(model_directory):
    torch.set_num_threads(1)
    prompts = make_prompts(Tokenizer.from_file(str(model_directory / "tokenizer.json")), PROMPTS)
    return prompts, reference(model_directory, prompts)


@pytest.fixture(scope="module")
def model(model_directory, asked):
    return load(model_directory, threads=1)


@pytest.mark.parametrize("way", WAYS)
def test_greedy_tokens_are_those_of_transformers(model, asked, way):
    prompts, expected = asked
    answers, happened, what = WAYS[way](model, prompts)
    assert answers == expected
    assert happened, f"{way} did not happen: {what}"

"""Fifty prompts on the real weights in float32: the same greedy tokens as transformers, batched and alone."""

import pytest
import torch

from localmodel.api.channel import Sampling
from localmodel.api.engine import EngineConfig
from localmodel.engine.loader import load_model
from localmodel.engine.service import build_engine

pytestmark = pytest.mark.triton

TOKENS = 10
SUBJECTS = ["Paris", "a tree", "the sea", "iron", "bread", "a violin", "snow", "Kyoto", "a bridge", "the moon"]
FORMS = [
    "What is {}?", "Write one line about {}.", "{} is", "Translate into French: I like {}.",
    "List three facts about {} and explain each of them to a child who has never heard of {}.",
]  # fmt: skip


def test_greedy_tokens_are_those_of_transformers(model_directory):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(model_directory)
    network = AutoModelForCausalLM.from_pretrained(model_directory, dtype=torch.float32)
    prompts = [tokenizer(form.format(subject, subject)).input_ids for subject in SUBJECTS for form in FORMS]
    expected = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        made = network.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False)
        expected.append(made[0, len(prompt) :].tolist())
    del network
    config = EngineConfig(
        model_path=str(model_directory), dtype="float32", context_window=256, max_batch_size=8, cpu_threads=1,
        channel_token_file="unused",
    )  # fmt: skip
    engine = build_engine(load_model(config))
    assert len(prompts) == 50
    assert run(engine, prompts) == expected
    assert [run(engine, [prompt])[0] for prompt in prompts] == expected


def run(engine, prompts):
    answers = [[] for _ in prompts]
    for number, prompt in enumerate(prompts):
        engine.add_request(number, prompt, Sampling(temperature=0, max_tokens=TOKENS))
    while any(engine.load()[:2]):
        for output in engine.step():
            answers[output.key].append(output.token)
    return answers

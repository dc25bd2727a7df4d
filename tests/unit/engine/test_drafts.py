"""Real networks answer the same with and without guesses: tokens, draws, log-probabilities, masks.

Random networks do not repeat themselves, so the guesses are made up here: the known answer with mistakes in it.
"""

import json
import random
import shutil

import pytest
import torch

from engine_runs import make_prompts
from localmodel.api.channel import Sampling
from localmodel.engine.blocks import BlockPool
from localmodel.engine.json_schema import JsonSchemas
from localmodel.engine.loader import load_model
from localmodel.engine.scheduler import Scheduler
from localmodel.engine.service import build_engine
from localmodel.engine.speculation import Speculation

KINDS = ["llama", "qwen3", "mistral-window", "gemma3"]


class Prophet(Speculation):
    """Guesses up to six tokens of known answers, one in five of them wrong."""

    def __init__(self, answers):
        super().__init__()
        self.answers, self.source = answers, random.Random(1)

    def draft(self, sequences, rows, others=0):
        return [self.guess(sequence) for sequence in sequences]

    def guess(self, sequence):
        at = len(sequence.answer)
        truth = self.answers[sequence.key][at : sequence.max_tokens - 1][: self.source.randrange(7)]
        return [token if self.source.random() < 0.8 else (token + 1) % 256 for token in truth]


@pytest.fixture
def make_engine(engine_config):
    """make_engine(kind, speculation, blocks, **config)"""

    def make(kind="llama", speculation=None, blocks=None, **config):
        model = load_model(engine_config(kind, **config))
        engine = build_engine(model)
        cache = model.cache
        pool = BlockPool(blocks or cache.blocks, cache.block_size, contiguous=True)
        engine._scheduler = Scheduler(cache.slots, model.chunk, pool, speculation=speculation)
        return engine

    return make


def run(engine, requests, compile_schema=lambda key: None):
    """{key: outputs} of requests that begin together."""
    outputs = {key: [] for key in requests}
    for key, (prompt, sampling) in requests.items():
        engine.add_request(key, prompt, sampling, constraint=compile_schema(key))
    while any(engine.load()[:2]):
        for output in engine.step():
            outputs[output.key].append(output)
    assert engine._scheduler.pool.held == 0
    return outputs


def both(make_engine, requests, kind="llama", compile_schema=lambda key: None, **config):
    """{key: outputs} without and with guesses."""
    without = run(make_engine(kind, **config), requests, compile_schema)
    engine = make_engine(kind, Prophet(tokens(without)), **config)
    with_guesses = run(engine, requests, compile_schema)
    drafted, accepted = engine.drafts()
    assert drafted > accepted > 0.3 * sum(len(outputs) for outputs in without.values())
    return without, with_guesses


def tokens(outputs):
    return {key: [output.token for output in each] for key, each in outputs.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_tokens(make_engine, kind):
    sampling = Sampling(temperature=0, max_tokens=50, ignore_eos=True)
    without, with_guesses = both(
        make_engine, {key: (prompt, sampling) for key, prompt in enumerate(make_prompts(8, 1, 60))}, kind
    )
    assert tokens(without) == tokens(with_guesses)
    assert all(len(each) == 50 for each in with_guesses.values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_drawn_tokens_of_a_seed(make_engine, dtype):
    def sampling(key):
        return Sampling(temperature=1, top_p=0.9 if key % 2 else 1, seed=key, max_tokens=60, ignore_eos=True)

    requests = {key: (prompt, sampling(key)) for key, prompt in enumerate(make_prompts(8, 1, 60))}
    without, with_guesses = both(make_engine, requests, dtype=dtype)
    assert tokens(without) == tokens(with_guesses)
    engine = make_engine(speculation=Prophet(tokens(without)), dtype=dtype)
    assert {key: tokens(run(engine, {key: request}))[key] for key, request in requests.items()} == tokens(without)


@pytest.fixture
def wide_model(make_model, tmp_path):
    """Matrices so wide that a CPU computes many rows of them otherwise than few."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=259, hidden_size=576, intermediate_size=1536, num_hidden_layers=2, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=256, initializer_range=0.15,
    )  # fmt: skip
    torch.manual_seed(7)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "wide")
    shutil.copy(make_model("llama") / "tokenizer.json", tmp_path / "wide")
    return tmp_path / "wide"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_rounding_of_a_seed(make_engine, wide_model, dtype):
    """Also beside prompts and many others: log-probabilities are equal to the bit."""
    requests = {
        key: (prompt, Sampling(temperature=1, seed=key, max_tokens=20, ignore_eos=True, logprobs=1))
        for key, prompt in enumerate(make_prompts(20, 1, 100))
    }
    settings = {"dtype": dtype, "max_batch_size": 16, "context_window": 256}
    without, with_guesses = both(make_engine, requests, wide_model, **settings)
    engine = make_engine(wide_model, **settings)
    alone = {key: run(engine, {key: request})[key] for key, request in requests.items()}
    assert alone == without == with_guesses


def test_preempted_and_with_shared_beginnings(make_engine):
    sampling = Sampling(temperature=0, max_tokens=60, ignore_eos=True)
    beginning = make_prompts(1, 40, 40)[0]
    requests = {key: (beginning + prompt, sampling) for key, prompt in enumerate(make_prompts(8, 1, 20, seed=5))}
    without, with_guesses = both(make_engine, requests, blocks=12)
    assert tokens(without) == tokens(with_guesses)


def test_preempted_with_a_seed(make_engine):
    requests = {
        key: (prompt, Sampling(temperature=1, seed=key, max_tokens=50, ignore_eos=True))
        for key, prompt in enumerate(make_prompts(6, 1, 60))
    }
    without, with_guesses = both(make_engine, requests, blocks=12)
    assert tokens(without) == tokens(with_guesses)


def test_log_probabilities_stop_tokens_penalties_and_biases(make_engine):
    samplings = [
        Sampling(temperature=0, max_tokens=40, logprobs=3, ignore_eos=True),
        Sampling(temperature=0, max_tokens=40, logprobs=0),
        Sampling(temperature=0, max_tokens=40, presence_penalty=0.3, frequency_penalty=-0.4, ignore_eos=True),
        Sampling(temperature=0.3, max_tokens=40, seed=4, logprobs=2, frequency_penalty=0.05, ignore_eos=True),
        Sampling(temperature=0, max_tokens=40, logit_bias={7: 3.0, 257: 4.0}),
    ]
    prompts = make_prompts(10, 1, 60)
    requests = {key: (prompts[key], samplings[key % len(samplings)]) for key in range(10)}
    without, with_guesses = both(make_engine, requests)
    assert tokens(without) == tokens(with_guesses)
    for key, outputs in with_guesses.items():
        assert [output.finish for output in outputs] == [output.finish for output in without[key]]
        for ours, theirs in zip(outputs, without[key], strict=True):
            assert (ours.logprob is None) == (theirs.logprob is None)
            if ours.logprob and theirs.logprob:
                assert ours.logprob.token == ours.token
                assert ours.logprob.logprob == pytest.approx(theirs.logprob.logprob, abs=1e-4)
                assert [token for token, _ in ours.logprob.top] == [token for token, _ in theirs.logprob.top]
    assert any(output.logprob for outputs in with_guesses.values() for output in outputs)


def test_answers_under_a_schema(make_engine, make_model):
    """Also behind a guess that the schema forbids."""
    schemas = JsonSchemas(make_model("llama") / "tokenizer.json", 259, {257})
    schema = json.dumps({"type": "array", "items": {"enum": ["abcdefgh", "abcdefxy"]}, "minItems": 4, "maxItems": 6})
    requests = {
        key: (prompt, Sampling(temperature=key % 2, seed=key, max_tokens=80)) for key, prompt in enumerate(make_prompts(6, 1, 40))
    }
    without, with_guesses = both(make_engine, requests, compile_schema=lambda key: schemas.compile(schema))
    assert tokens(without) == tokens(with_guesses)
    assert {outputs[-1].finish for outputs in with_guesses.values()} <= {"stop", "length"}


def test_a_guess_that_ends_a_document(make_engine, make_model):
    """What follows is its end, and nothing else."""
    schemas = JsonSchemas(make_model("llama") / "tokenizer.json", 259, {257})
    schema = json.dumps({"type": "array", "items": {"enum": ["a", 7]}, "maxItems": 2})
    requests = {
        key: (prompt, Sampling(temperature=key % 2, seed=key, max_tokens=80))
        for key, prompt in enumerate(make_prompts(12, 1, 40))
    }
    without, with_guesses = both(make_engine, requests, compile_schema=lambda key: schemas.compile(schema))
    assert tokens(without) == tokens(with_guesses)
    assert {outputs[-1].finish for outputs in with_guesses.values()} == {"stop"}

"""Answers of a seed are the same alone and in the worst company: few blocks, shared beginnings, guesses, all at any time.

Each of these has its own tests; here are all at once, with everything that may be asked of sampling, up to the text.
"""

import json
import random

import pytest

from localmodel.api.channel import Sampling
from localmodel.engine.answer import Answer
from localmodel.engine.blocks import BlockPool
from localmodel.engine.json_schema import JsonSchemas
from localmodel.engine.loader import load_model
from localmodel.engine.plain_tokens import PlainTokens
from localmodel.engine.scheduler import Scheduler
from localmodel.engine.service import build_engine
from localmodel.engine.speculation import MOST_ROWS, Speculation

CONTEXT = 128
SCHEMAS = [
    None,
    None,
    json.dumps({"type": "array", "items": {"enum": ["abcdefgh", "abcdefxy", 7]}, "minItems": 2, "maxItems": 5}),
    json.dumps({"type": "object", "properties": {"a": {"type": "string", "maxLength": 9}}, "required": ["a"]}),
]
ROUNDS = 2


class Prophet(Speculation):
    """Guesses up to eleven tokens of known answers, one in five of them wrong; of answers that nobody knows none."""

    def __init__(self, answers, source):
        super().__init__()
        self.answers, self.source = answers, source

    def draft(self, sequences, rows, others=0):
        left, drafts = MOST_ROWS, []
        for sequence in sequences:
            known = self.answers.get(sequence.key, [])[len(sequence.answer) : sequence.max_tokens - 1]
            truth = [token for token in known if token is not None][: min(left, self.source.randrange(12))]
            drafts.append([token if self.source.random() < 0.8 else (token + 1) % 256 for token in truth])
            left -= len(truth)
        return drafts


def draw_request(source, shared):
    """(prompt, sampling, schema)"""
    prompt = shared[: source.randrange(50)] + [source.randrange(256) for _ in range(source.randint(1, 20))]
    schema = source.choice(SCHEMAS)
    possible = {
        "top_k": source.randint(1, 300), "top_p": source.choice([1e-9, 0.3, 0.9]), "min_p": source.choice([0.01, 0.5, 1]),
        "presence_penalty": source.choice([-2, 0.5, 2]), "frequency_penalty": source.choice([-2, -0.1, 2]),
        "logit_bias": {source.randrange(259): source.choice([-100, 3, 100])}, "logprobs": source.randint(0, 20),
        "stop": ("ab", source.choice(["a", "é"])), "ignore_eos": schema is None,
    }  # fmt: skip
    chosen = {name: value for name, value in possible.items() if source.random() < 0.3}
    limits = {"temperature": source.choice([0, 0.3, 1, 2, 1e-9]), "max_tokens": source.randint(1, min(60, CONTEXT - len(prompt)))}
    return prompt, Sampling(seed=source.randint(-5, 5), **limits, **chosen), schema


def run(engine, requests, schemas, tokenizer, source):
    """{key: (outputs until the end of the text, text, (finish reason, usage))}; requests come while others run."""
    plain = PlainTokens(tokenizer)
    answers = {key: Answer("s", tokenizer, prompt, sampling.stop, plain) for key, (prompt, sampling, _) in requests.items()}
    outputs, texts, ends = {key: [] for key in requests}, dict.fromkeys(requests, ""), {}
    waiting = list(requests)
    while waiting or any(engine.load()[:2]):
        while waiting and (source.random() < 0.5 or not any(engine.load()[:2])):
            prompt, sampling, schema = requests[key := waiting.pop(0)]
            engine.add_request(key, prompt, sampling, constraint=schemas.compile(schema) if schema else None)
        for output in engine.step():
            event = answers[output.key].take(output)
            if event is None:
                continue
            outputs[output.key].append(output)
            texts[output.key] += event.text
            if event.finish_reason:
                ends[output.key] = event.finish_reason, event.usage
                engine.cancel(output.key)
    assert engine._scheduler.pool.held == 0
    return {key: (outputs[key], texts[key], ends[key]) for key in requests}


def compare(alone, company):
    (outputs, text, end), (others, *rest) = alone, company
    assert [text, end] == rest
    assert [output[:3] for output in outputs] == [output[:3] for output in others]
    for ours, theirs in zip(outputs, others, strict=True):
        assert (ours.logprob is None) == (theirs.logprob is None)
        if ours.logprob and theirs.logprob:
            assert ours.logprob.logprob == pytest.approx(theirs.logprob.logprob, abs=1e-4)


@pytest.mark.parametrize(("kind", "dtype"), [("llama", "bfloat16"), ("qwen3", "float32"), ("gemma3", "float32")])
def test_all_at_once(engine_config, make_model, byte_tokenizer, kind, dtype):
    model = load_model(engine_config(kind, dtype=dtype, max_batch_size=5))
    schemas = JsonSchemas(make_model(kind) / "tokenizer.json", 259, {257})
    size = model.cache.block_size
    preempted = found = accepted = 0
    for number in range(ROUNDS):
        source = random.Random(number)
        shared = [source.randrange(256) for _ in range(50)]
        requests = {key: draw_request(source, shared) for key in range(9)}
        unseeded = {-key - 1: (prompt, sampling.model_copy(update={"seed": None}), schema)
                    for key, (prompt, sampling, schema) in requests.items()}  # fmt: skip
        alone = {}
        for key, request in requests.items():
            alone |= run(build_engine(model), {key: request}, schemas, byte_tokenizer, source)
        engine = build_engine(model)
        pool = BlockPool(CONTEXT // size + source.randint(0, 3), size, contiguous=True)
        prophet = Prophet({key: [output.token for output in outputs] for key, (outputs, _, _) in alone.items()}, source)
        engine._scheduler = Scheduler(model.cache.slots, model.chunk, pool, speculation=prophet)
        mixed = [*requests.items(), *unseeded.items()]
        source.shuffle(mixed)
        company = run(engine, dict(mixed), schemas, byte_tokenizer, source)
        for key in requests:
            compare(alone[key], company[key])
        tokens, sequences = engine.cache_events()
        preempted, found, accepted = preempted + sequences, found + tokens, accepted + engine.drafts()[1]
    assert preempted and found and accepted, "nothing was hard"

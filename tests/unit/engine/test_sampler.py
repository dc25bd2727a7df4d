"""Which tokens are drawn, against plain definitions row by row."""

import math
import random

import numpy as np
import pytest
import torch

from localmodel.api.channel import Sampling
from localmodel.engine.constraint import mask_words
from localmodel.engine.logprobs import LEAST
from localmodel.engine.sampler import NUCLEUS_GUESS, Sampler, _least_kept
from localmodel.engine.sampling_plan import make_plan
from localmodel.engine.scheduler import Sequence

CPU = torch.device("cpu")


def sequence(seed=0, answer=(), constraint=None, **sampling):
    made = Sequence("k", (1,), 10, sampling=Sampling(**sampling), uniform=random.Random(seed).random, constraint=constraint)
    made.answer.extend(answer)
    return made


def choose(logits, sequences):
    sampler = Sampler(logits.shape[1], CPU)
    before = logits.clone()
    tokens = sampler.sample(logits, sampler.prepare(sequences)).report()
    assert torch.equal(logits, before), "the raw logits stay as they are"
    return tokens


def draws(logits, count, **sampling):
    """`count` draws of one row, at once."""
    return choose(logits.expand(count, -1), [sequence(seed=n, **sampling) for n in range(count)])


def shares(logits, sampling):
    """The distribution that Sampling's docstrings define, written the plain way. [V] float64"""
    probabilities = torch.softmax(logits.double() / sampling.temperature, dim=-1)
    order = sorted(range(len(logits)), key=lambda token: -float(logits[token]))
    kept = order[: sampling.top_k] if sampling.top_k else order
    inside = float(probabilities[kept].sum())
    nucleus, mass = [], 0.0
    for token in kept:
        if mass / inside >= sampling.top_p:
            break
        nucleus.append(token)
        mass += float(probabilities[token])
    nucleus = [token for token in nucleus if probabilities[token] >= sampling.min_p * probabilities[order[0]]]
    result = torch.zeros(len(logits), dtype=torch.float64)
    result[nucleus] = probabilities[nucleus]
    return result / result.sum()


def test_greedy_takes_the_largest():
    assert choose(torch.tensor([[0.0, 3, 1], [5, 0, 0]]), [sequence(temperature=0)] * 2) == [1, 0]


SETTINGS = [
    {"temperature": 1.0}, {"temperature": 0.7, "top_p": 0.8}, {"top_k": 5}, {"top_k": 9, "top_p": 0.5}, {"min_p": 0.2},
    {"top_p": 0.9, "min_p": 0.05, "temperature": 1.5}, {"presence_penalty": 1.0, "frequency_penalty": 0.5},
    {"logit_bias": {3: 5.0}}, {"top_k": 300, "top_p": 0.99},
]  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS)
def test_same_seed_same_tokens_in_any_company(settings):
    torch.manual_seed(1)
    rows = torch.randn(20, 300) * 2
    alone, company = sequence(seed=42, **settings), sequence(seed=42, **settings)
    others = [sequence(seed=9), sequence(temperature=0), sequence(seed=8, top_p=0.5), sequence(seed=7, top_k=280)]
    first, second = [], []
    for row in rows:
        first += choose(row[None], [alone])
        second.append(choose(torch.stack([*rows[:2], row, *rows[5:7]]), [*others[:2], company, *others[2:]])[2])
        alone.answer.append(first[-1])
        company.answer.append(second[-1])
    assert first == second
    assert len(set(first)) > 3


@pytest.mark.parametrize("settings", SETTINGS[:6])
@pytest.mark.parametrize("size", [7, 256, 1000])
def test_shares_follow_the_definition(settings, size):
    torch.manual_seed(size)
    logits = torch.randn(size) * 2
    expected = shares(logits, Sampling(**settings))
    counts = torch.bincount(torch.tensor(draws(logits, 4000, **settings)), minlength=size) / 4000
    assert counts[expected == 0].sum() == 0, "what is filtered out is never drawn"
    assert (counts - expected).abs().max() < 0.03


def test_temperature_sharpens_and_next_to_nothing_is_greedy():
    logits = torch.tensor([0.0, 1.0])
    assert sum(draws(logits, 1000, temperature=0.2)) > sum(draws(logits, 1000, temperature=2)) + 200
    assert set(draws(logits, 50, temperature=1e-300)) == {1}


def test_top_k_and_top_p_keep_the_right_tokens():
    logits = torch.tensor([0.1, 0.5, 0.15, 0.25]).log()
    assert set(draws(logits, 500, top_k=2)) == {1, 3}
    assert set(draws(logits, 500, top_p=0.6)) == {1, 3}
    assert set(draws(logits, 500, top_p=0.4)) == {1}
    assert set(draws(logits, 500, top_k=3, top_p=0.99)) == {1, 2, 3}
    assert set(draws(torch.tensor([1.0, 2, 2, 0]), 200, top_k=1)) == {1, 2}, "equals of the last one stay"


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_sum_that_threads_add_up_otherwise_moves_no_border_of_top_p(two_threads):
    """A row alone is cut up among threads, several are not, and in float32 the sums differ in their last bit."""
    generator, tried = torch.Generator().manual_seed(1), 0
    for _ in range(20):
        scaled = torch.randn(4, 50_000, generator=generator) * 3
        weights = (scaled - scaled.amax(dim=1, keepdim=True)).exp()
        largest = weights.topk(NUCLEUS_GUESS, dim=1).values
        parts = [largest[:1] / whole for whole in (weights[:1].sum(dim=1), weights.sum(dim=1)[:1])]
        borders = [(each.cumsum(dim=1, dtype=torch.float64) - each)[0, 100] for each in parts]
        if borders[0] == borders[1]:
            continue
        tried += 1
        sampling = {"temperature": 1.0, "top_p": float((borders[0] + borders[1]) / 2)}
        plans = [make_plan([sequence(**sampling)] * rows, 50_000, CPU).filtered for rows in (1, 4)]
        alone, together = (_least_kept(scaled[: len(plan.uniform)], plan, NUCLEUS_GUESS)[0] for plan in plans)
        assert alone[0] == together[0]
    if not tried:
        pytest.skip("this machine adds up the same in any company")


@pytest.mark.parametrize("settings", [{"top_p": 0.9}, {"min_p": 0.5}, {"top_p": 0.9, "min_p": 0.1}])
def test_beyond_the_guess_all_are_sorted(settings):
    flat = torch.zeros(2000)
    chosen = draws(flat, 300, **settings)
    assert len(set(chosen)) > NUCLEUS_GUESS // 2
    assert max(chosen) >= NUCLEUS_GUESS
    peaked = torch.cat([torch.tensor([9.0]), torch.zeros(1999)])
    mixed = choose(torch.stack([peaked, flat]).repeat(200, 1), [sequence(seed=n, top_p=0.8) for n in range(400)])
    assert set(mixed[::2]) == {0}


class Extreme:
    """Sources whose numbers lie at the ends of [0, 1)."""

    low, high = staticmethod(lambda: 0.0), staticmethod(lambda: 1 - 2**-53)


@pytest.mark.parametrize("settings", [{}, {"top_p": 0.999}, {"top_k": 250}, {"min_p": 1e-9}])
def test_the_ends_of_the_interval_never_give_a_token_of_no_share(settings):
    torch.manual_seed(3)
    logits = torch.randn(300, 700) * 3
    logits[:, :5] = logits[:, -200:] = -math.inf
    for uniform in (Extreme.low, Extreme.high):
        rows = [Sequence("k", (1,), 9, sampling=Sampling(**settings), uniform=uniform) for _ in logits]
        chosen = torch.tensor(choose(logits, rows))
        assert torch.isfinite(logits.gather(1, chosen[:, None])).all()


@pytest.mark.parametrize("settings", [{}, {"top_p": 0.9}, {"top_k": 3}, {"temperature": 0}])
def test_logits_that_are_no_numbers_give_some_token_and_harm_no_other_row(settings):
    torch.manual_seed(6)
    logits = torch.randn(3, 300)
    well = choose(logits, [sequence(seed=n, **settings) for n in range(3)])
    logits[1] = math.nan
    sampler = Sampler(300, CPU)
    broken = sampler.sample(logits, sampler.prepare([sequence(seed=n, **settings) for n in range(3)])).report()
    assert broken[::2] == well[::2] and 0 <= broken[1] < 300


def test_penalties_count_the_answer_and_not_the_prompt():
    logits = torch.tensor([[2.0, 1.9, 1.0, 0.0]])

    def first(answer, **sampling):
        return choose(logits, [sequence(answer=answer, temperature=0, **sampling)])[0]

    assert first([], presence_penalty=2) == first([2, 3], presence_penalty=2) == 0
    assert first([0], presence_penalty=0.2) == 1
    assert first([0, 0, 0], presence_penalty=0.05) == 0, "presence does not count"
    assert first([0, 0, 0], frequency_penalty=0.05) == 1, "frequency does"
    assert first([0], frequency_penalty=0.05) == 0
    assert first([2], presence_penalty=-2) == 2, "a negative penalty invites"
    assert first([1, 1, 0], presence_penalty=0.6, frequency_penalty=0.5) == 2, "0.9, 0.3, 1.0: the sum of both"


def test_logit_bias_forbids_and_forces():
    logits = torch.tensor([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0]])
    rows = [sequence(temperature=0, logit_bias={0: -100}), sequence(temperature=0, logit_bias={2: 100, 1: 5})]
    assert choose(logits, rows) == [1, 2]


class Only:
    """A constraint that allows some tokens, and remembers what it was asked."""

    def __init__(self, *tokens):
        self.tokens, self.asked = tokens, []

    def fill_mask(self, answer, mask):
        self.asked.append(list(answer))
        mask[:] = 0
        for token in self.tokens:
            mask.view(np.uint32)[token // 32] |= np.uint32(1 << token % 32)


def test_a_mask_hides_every_other_token():
    torch.manual_seed(2)
    logits = torch.randn(3, 77)
    constraint = Only(0, 31, 32, 63, 76)
    rows = [sequence(temperature=0), sequence(temperature=0, constraint=constraint, answer=[4, 5]), sequence(temperature=0)]
    chosen = choose(logits, rows)
    allowed = torch.tensor(constraint.tokens)
    assert chosen == [logits[0].argmax(), allowed[logits[1, allowed].argmax()], logits[2].argmax()]
    assert constraint.asked == [[4, 5]]
    for token in constraint.tokens:
        assert choose(logits[:1], [sequence(constraint=Only(token), top_p=0.9, logit_bias={token: -100})]) == [token]
    assert mask_words(77) == 3


def test_logprobs_are_of_the_raw_distribution_whatever_was_drawn():
    torch.manual_seed(4)
    logits = torch.randn(3, 50)
    rows = [
        sequence(temperature=0),
        sequence(temperature=0, logprobs=2, logit_bias={7: 100}),
        sequence(temperature=0.5, logprobs=0, top_k=3),
    ]
    tokens = choose(logits, rows)
    raw = torch.log_softmax(logits, dim=-1)
    assert not rows[0].logprobs
    (second,), (third,) = rows[1].logprobs, rows[2].logprobs
    assert second.token == tokens[1] == 7
    assert second.logprob == pytest.approx(float(raw[1, 7]), abs=1e-5)
    best = raw[1].topk(2)
    assert [token for token, _ in second.top] == best.indices.tolist()
    assert [value for _, value in second.top] == pytest.approx(best.values.tolist(), abs=1e-5)
    assert (third.token, third.top) == (tokens[2], ())


def test_a_logprob_of_minus_infinity_is_a_number():
    logits = torch.tensor([[0.0, -math.inf]])
    row = sequence(temperature=0, logprobs=2)
    choose(logits, [row])
    assert row.logprobs[0].top == ((0, 0.0), (1, -9999.0))


def test_a_logprob_of_no_number_is_one():
    """One row's broken numbers would be broken JSON in everybody's events."""
    asked = [sequence(temperature=0, logprobs=1), sequence(temperature=0, logprobs=1)]
    sampler = Sampler(2, CPU)
    sampler.sample(torch.tensor([[math.nan, 0.0], [0.0, 1.0]]), sampler.prepare(asked)).report()
    broken, sound = (each.logprobs.popleft() for each in asked)
    assert broken.logprob == LEAST and [value for _, value in broken.top] == [LEAST]
    assert sound.token == 1 and sound.logprob > -1


def test_rows_that_ask_for_nothing_make_no_tensor():
    plan = Sampler(9, CPU).prepare([sequence(temperature=0)] * 3)
    assert (plan.greedy_rows, plan.plain, plan.filtered, plan.adjustment, plan.logprob_rows) == (None, None, None, None, [])

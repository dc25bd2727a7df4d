import random

import torch

from localmodel.api.channel import Sampling
from localmodel.engine.sampler import choose_tokens
from localmodel.engine.scheduler import Sequence


def sequence(seed=0, **sampling):
    return Sequence("k", (1,), 10, sampling=Sampling(**sampling), uniform=random.Random(seed).random)


def draws(logits, count, **sampling):
    chosen = sequence(**sampling)
    return [choose_tokens(logits[None], [chosen])[0] for _ in range(count)]


def test_greedy_takes_the_largest():
    assert choose_tokens(torch.tensor([[0.0, 3, 1], [5, 0, 0]]), [sequence(temperature=0)] * 2) == [1, 0]


def test_same_seed_same_tokens_in_any_company():
    torch.manual_seed(1)
    rows = torch.randn(20, 300)
    for sampling in ({"temperature": 1.0}, {"temperature": 0.7, "top_p": 0.8}, {"top_k": 5}, {"top_k": 9, "top_p": 0.5}):
        alone = sequence(seed=42, **sampling)
        first = [choose_tokens(row[None], [alone])[0] for row in rows]
        companion = sequence(seed=42, **sampling)
        others = [sequence(seed=9), sequence(temperature=0)]
        second = [choose_tokens(torch.stack([rows[3], row, rows[5]]), [others[0], companion, others[1]])[1] for row in rows]
        assert first == second
        assert len(set(first)) > 3


def test_shares_follow_the_probabilities():
    shares = torch.tensor([0.5, 0.3, 0.15, 0.05])
    chosen = draws(shares.log(), 4000, temperature=1)
    counts = torch.bincount(torch.tensor(chosen), minlength=4) / 4000
    assert torch.allclose(counts, shares, atol=0.03)


def test_temperature_sharpens():
    logits = torch.tensor([0.0, 1.0])
    assert sum(draws(logits, 1000, temperature=0.2)) > sum(draws(logits, 1000, temperature=2)) + 200


def test_top_k_and_top_p_keep_the_right_tokens():
    logits = torch.tensor([0.1, 0.5, 0.15, 0.25]).log()
    assert set(draws(logits, 500, top_k=2)) == {1, 3}
    assert set(draws(logits, 500, top_p=0.6)) == {1, 3}
    assert set(draws(logits, 500, top_p=0.4)) == {1}
    assert set(draws(logits, 500, top_k=3, top_p=0.99)) == {1, 2, 3}


def test_top_p_beyond_the_guess_sorts_all():
    flat = torch.zeros(2000)
    chosen = draws(flat, 300, top_p=0.9)
    assert len(set(chosen)) > 256 // 2
    assert max(chosen) >= 256

"""How many prompt tokens a processor computes at once while nobody waits for a token, and that a seed does not see it."""

import pytest

from engine_runs import run_logged
from localmodel.api.channel import Sampling
from localmodel.engine.loader import load_model
from localmodel.engine.prediction import BURST_OPERATIONS, CPU_BURST, CPU_CHUNK, cpu_burst


@pytest.mark.parametrize(
    ("parameters", "threads", "burst"),
    [
        (1_000, 1, CPU_BURST),
        (135_000_000, 1, 512),
        (135_000_000, 2, CPU_BURST),
        (1_500_000_000, 4, 192),
        (70_000_000_000, 2, CPU_CHUNK),
    ],
)
def test_a_burst_is_whole_chunks_and_takes_no_longer_than_said(engine_config, parameters, threads, burst):
    assert cpu_burst(engine_config("llama", cpu_threads=threads), parameters) == burst
    assert burst == CPU_CHUNK or burst * 2 * parameters <= BURST_OPERATIONS * threads


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_seed_beside_a_burst_has_the_same_bits(engine_config, dtype):
    """The log-probabilities of the first tokens show a rounding that the tokens would hide."""
    model = load_model(engine_config("llama", context_window=128, max_batch_size=8, dtype=dtype))
    assert model.burst == CPU_BURST
    seeded = ([number % 250 for number in range(3, 90)], Sampling(temperature=1, seed=5, max_tokens=4, logprobs=0))
    others = [([number % 250 for number in range(at, at + 60)], Sampling(temperature=0, max_tokens=4)) for at in range(6)]
    alone, counts = run_logged(model, [seeded])
    assert max(counts) == CPU_CHUNK
    together, counts = run_logged(model, [seeded, *others])
    assert max(counts) > 300, "one step computed all of the others"
    assert together[0] == alone[0]

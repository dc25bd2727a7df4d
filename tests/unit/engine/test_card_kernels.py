"""The card's kernels and runner against the CPU's; without a card in Triton's interpreter, which is slow, so they are small."""

# ruff: noqa: E402 - the interpreter is chosen before kernels are imported

import os
import re
import sys
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    compiled = [name for name in sys.modules if re.fullmatch(r"localmodel\.engine\.(\w+_kernel|fused_kernels)", name)]
    assert not compiled or os.environ.get("TRITON_INTERPRET"), "kernels were compiled before"
    os.environ["TRITON_INTERPRET"] = "1"

from engine_runs import make_prompts, run_all
from localmodel.api.channel import Sampling
from localmodel.engine import card_graphs, card_runner, layers, rounding
from localmodel.engine.attention import attend_one, locate
from localmodel.engine.blocks import BlockPool
from localmodel.engine.card_attention import CardAttention
from localmodel.engine.card_graphs import CardGraphs, Graph
from localmodel.engine.card_inputs import step_numbers
from localmodel.engine.card_runner import CardRunner
from localmodel.engine.card_steps import StepShape
from localmodel.engine.chunk_attention_kernel import chunk_attention, count_chunk_splits
from localmodel.engine.engine import Engine
from localmodel.engine.fused_kernels import add_rms_norm, gated_silu, turn_and_store
from localmodel.engine.loader import load_model
from localmodel.engine.paged_attention_kernel import decode_attention
from localmodel.engine.rounding_kernel import compensate_block
from localmodel.engine.scheduler import Scheduler
from localmodel.engine.service import build_engine
from localmodel.engine.speculation import Speculation


class PagedCache:
    """Three sequences of 192 positions in shuffled pages; 6 heads over 2, `size` numbers each."""

    def __init__(self, page, size=24):
        torch.manual_seed(0)
        self.page = page
        pages = 192 // page
        self.keys, self.values = torch.randn(2, (3 * pages + 4) * page, 2, size, device=DEVICE)
        self.tables = torch.randperm(3 * pages + 4)[: 3 * pages].view(3, pages).int().to(DEVICE)

    def expected(self, queries, slot, start, window):
        past = locate(self.tables[slot].tolist(), self.page, start + len(queries))
        past = past if isinstance(past, slice) else past.to(DEVICE)
        return attend_one(queries, self.keys[past], self.values[past], start, queries.shape[-1] ** -0.5, window)


@pytest.fixture(params=[16, 64])
def cache(request):
    """Pages smaller than what a kernel takes at a time, and pages that hold it."""
    return PagedCache(request.param)


@pytest.mark.parametrize("window", [None, 30])
def test_decode_reads_every_page_of_its_own_sequence(cache, window):
    slots, positions = torch.tensor([[2, 0, 1], [0, 100, 180]], device=DEVICE)
    queries = torch.randn(3, 6, 24, device=DEVICE)
    output = torch.full_like(queries, torch.nan)
    decode_attention(
        queries, cache.keys, cache.values, cache.tables, slots, positions, output,
        page=cache.page, scale=24**-0.5, context=192, window=window,
    )  # fmt: skip
    expected = [
        cache.expected(query[None], slot, position, window)
        for query, slot, position in zip(queries, slots.tolist(), positions.tolist(), strict=True)
    ]
    torch.testing.assert_close(output, torch.cat(expected))


def test_wide_heads_are_read_in_smaller_parts():
    cache = PagedCache(16, size=200)
    slots, positions = torch.tensor([[2], [100]], device=DEVICE)
    queries = torch.randn(1, 6, 200, device=DEVICE)
    output = torch.full_like(queries, torch.nan)
    decode_attention(
        queries, cache.keys, cache.values, cache.tables, slots, positions, output, page=16, scale=200**-0.5, context=192
    )  # fmt: skip
    torch.testing.assert_close(output, cache.expected(queries, 2, 100, None))


@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("window", [None, 30])
def test_a_chunk_sees_what_came_before_it_and_not_what_comes_after(cache, window, splits):
    queries = torch.randn(52, 6, 24, device=DEVICE)
    output = torch.full_like(queries, torch.nan)
    rows = [[2, 32, 70, 1], [0, 0, 0, 0], [34, 10, 102, 1], [44, 8, 0, 2], [0, 0, 0, 0]]
    tiles = torch.tensor(rows, dtype=torch.int32, device=DEVICE)
    chunk_attention(
        queries, cache.keys, cache.values, cache.tables, tiles, output,
        first_row=2, longest=112, page=cache.page, scale=24**-0.5, context=192, window=window, splits=splits,
    )  # fmt: skip
    expected = [cache.expected(queries[2:44], 1, 70, window), cache.expected(queries[44:], 2, 0, window)]
    torch.testing.assert_close(output[2:], torch.cat(expected))
    assert output[:2].isnan().all(), "rows before the first were written"


def test_keys_are_cut_only_where_the_card_would_idle():
    assert count_chunk_splits(2 * 28, 16_000) == 4
    assert count_chunk_splits(16 * 28, 2_048) == 1, "many programs"
    assert count_chunk_splits(2 * 28, 300) == 1, "few keys"


@pytest.fixture
def default_device():
    torch.set_default_device(DEVICE)
    yield
    torch.set_default_device(None)


def test_fused_steps_compute_what_the_layers_say(default_device):
    torch.manual_seed(0)
    x, delta, weight = torch.randn(3, 72), torch.randn(3, 72), torch.randn(72)
    total, normed = add_rms_norm(x, delta, weight, 1e-5)
    torch.testing.assert_close(total, x + delta)
    torch.testing.assert_close(normed, torch.nn.functional.rms_norm(x + delta, (72,), weight, 1e-5))
    gate_up = torch.randn(2, 2 * 1100)
    gate, up = gate_up.chunk(2, dim=-1)
    torch.testing.assert_close(gated_silu(gate_up), torch.nn.functional.silu(gate) * up)
    qkv, angles = torch.randn(3, 6 + 2 * 2, 24), torch.randn(3, 1, 12)
    rotation = torch.cat([angles.cos(), angles.cos()], -1), torch.cat([-angles.sin(), angles.sin()], -1)
    keys, values = torch.zeros(50, 2, 24), torch.zeros(50, 2, 24)
    queries = turn_and_store(qkv, rotation, torch.tensor([40, -1, 7]), keys, values, 6)
    turned = layers.rotate(qkv[:, :8], rotation)
    torch.testing.assert_close(queries, turned[:, :6])
    torch.testing.assert_close(keys[[40, 7]], turned[[0, 2], 6:])
    torch.testing.assert_close(values[[40, 7]], qkv[[0, 2], 8:])
    assert keys.count_nonzero() == values.count_nonzero() == 2 * 2 * 24, "a row of padding was stored"


def test_a_block_of_columns_is_rounded_as_one_by_one():
    torch.manual_seed(0)
    own = torch.randn(70, 8, device=DEVICE).t()
    own[:, 0] = torch.tensor([0.5, 1.5, 2.5, -9.0, 99.0, 3.25, 0.49, 14.5])  # ties, and values outside
    factors = (torch.randn(8, 8, device=DEVICE).triu() * 0.1 + torch.eye(8, device=DEVICE)).t().contiguous().t()
    scale, minimum = torch.rand(70, device=DEVICE) + 0.5, torch.randn(70, device=DEVICE) * 0.1
    scale[0], minimum[0] = 1, 0
    numbers, expected = (torch.zeros(8, 70, dtype=torch.uint8, device=device) for device in (DEVICE, "cpu"))
    errors = compensate_block(own, factors, scale, minimum, numbers)
    expected_errors = rounding._round_block(own.cpu().clone(), factors.cpu(), scale.cpu(), minimum.cpu(), expected)
    assert torch.equal(numbers.cpu(), expected) and len(numbers.unique()) > 5
    torch.testing.assert_close(errors.cpu(), expected_errors)


def test_a_matrix_is_rounded_by_blocks_as_column_by_column(monkeypatch):
    torch.manual_seed(0)
    weight, x = torch.randn(40, 64), torch.randn(400, 64) @ torch.randn(64, 64)
    expected = rounding.compensate(weight, x.T @ x, 32, torch.float32)
    monkeypatch.setattr(rounding, "_round_block", compensate_block)
    made = rounding.compensate(weight.to(DEVICE), (x.T @ x).to(DEVICE), 32, torch.float32)
    different = (made.dense().cpu() - expected.dense()).abs() > 1e-4
    assert different.double().mean() < (0.01 if DEVICE == "cpu" else 0.1), "on a card sums are rounded otherwise"


class TableAttention(CardAttention):
    """What the kernels are to compute, said plainly."""

    def __call__(self, queries, keys, values, scale, window):
        output = torch.full_like(queries, torch.nan)
        slots = [] if self.slots is None else self.slots.tolist()
        rows = [(row, 1, self.positions[row].item(), slot) for row, slot in enumerate(slots)]
        for row, count, position, slot in rows + ([] if self.tiles is None else self.tiles.tolist()):
            if not count:
                continue
            past = locate(self.tables[slot].tolist(), self.page, position + count)
            here = slice(row, row + count)
            output[here] = attend_one(queries[here], keys[past], values[past], position, scale, window)
        return output


class HostGraphs(CardGraphs):
    """Without a card a graph's replay computes anew. Its padding is computed too, and written behind what the pool hands out."""

    def __init__(self, network, cache, *rest):
        def pad(batch, cache, rows):
            places = torch.where(batch.cache_rows < 0, cache.tokens - 1, batch.cache_rows)
            return network(replace(batch, cache_rows=places), cache, rows)

        super().__init__(pad, cache, *rest)
        self.replayed = Counter()

    def _capture(self, numbers, run):
        logits, best = (part.clone() for part in run())

        def replay():
            for place, part in zip((logits, best), run(), strict=True):
                place.copy_(part)
            self.replayed[len(numbers)] += 1

        return Graph(numbers, SimpleNamespace(replay=replay), logits, best, run)


class HostCard(CardRunner):
    """Without a card: copies are where they are read."""

    def _make_graphs(self, network, cache, vocabulary):
        return HostGraphs(network, cache, self._tables, self._chosen, vocabulary)

    @staticmethod
    def _fetch(tokens):
        return tokens.clone().tolist

    @staticmethod
    def _pin(array):
        return torch.from_numpy(array.copy())


@pytest.fixture
def host_card(monkeypatch):
    for module in (card_runner, card_graphs):
        monkeypatch.setattr(module, "CardAttention", TableAttention)
    return HostCard


@pytest.mark.skipif(DEVICE == "cuda", reason="on a card the whole engine runs: test_cuda_tokens")
def test_the_runner_gives_the_same_tokens_batched_ahead_preempted_and_shared(engine_config, host_card):
    model = load_model(engine_config("llama", max_batch_size=3))
    beginning = make_prompts(1, 33, 33)[0]
    greedy = Sampling(temperature=0, max_tokens=40, ignore_eos=True)
    requests = {
        "a": ([*beginning, 1, 2, 3], greedy),
        "b": ([*beginning, 4], greedy),
        "c": ([9] * 40, greedy),
        "seeded": ([5, 6], Sampling(temperature=1, seed=3, max_tokens=15, ignore_eos=True)),
        "penalty": ([7] * 18, Sampling(temperature=0, presence_penalty=2, max_tokens=9, ignore_eos=True)),
    }
    expected = run_all(build_engine(model), requests)
    runner = host_card(model.network, model.cache, 259)
    scheduler = Scheduler(3, 32, BlockPool(9, 16))
    engine = Engine(runner.launch, scheduler, slots=3, context=128, vocabulary=259, stop_tokens=frozenset())
    assert run_all(engine, requests) == expected
    assert scheduler.preemptions_total > 0 and scheduler.pool.held == 0
    for key, request in requests.items():
        assert run_all(engine, {key: request})[key] == expected[key]
    assert scheduler.prefix_tokens_total >= 32
    shapes = [StepShape(3, 128, 128, several) for several in (False, True)]
    counts = [runner._graphs.replayed[len(step_numbers([], [], shape, 3, 32, {}, 16))] for shape in shapes]
    assert min(counts) >= 1 and sum(counts) > 8, "prompts were not computed in graphs"


@pytest.mark.skipif(DEVICE == "cuda", reason="on a card the whole engine runs: test_cuda_tokens")
def test_the_runner_verifies_guesses(engine_config, host_card):
    model = load_model(engine_config("llama", max_batch_size=6))
    loop = [1, 2, 3, 4] * 6
    some = {"ignore_eos": True, "max_tokens": 40}
    requests = {
        "a": (loop, Sampling(temperature=0, **some)),
        "b": ([5, *loop], Sampling(temperature=0, presence_penalty=1, **some)),
        "seeded": ([6, *loop], Sampling(temperature=1, seed=3, **some)),
        "logprobs": ([9] * 40, Sampling(temperature=0, logprobs=2, **some)),
    }
    expected = run_all(build_engine(model), requests)
    runner = host_card(model.network, model.cache, 259)
    speculation = Speculation(most_rows=6)
    speculation.cost.seconds = lambda rows: 1 + 0.01 * rows
    scheduler = Scheduler(6, 32, BlockPool(40, 16), speculation=speculation)
    rows = []

    def launch(works):
        rows.append(sum(work.count for work in works if work.decodes))
        return runner.launch(works)

    engine = Engine(launch, scheduler, slots=6, context=128, vocabulary=259, stop_tokens=frozenset())
    assert run_all(engine, requests) == expected
    for key, request in requests.items():
        assert run_all(engine, {key: request})[key] == expected[key]
    drafted, accepted = engine.drafts()
    assert 0 < accepted < drafted and max(rows) == 6

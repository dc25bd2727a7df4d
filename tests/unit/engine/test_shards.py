"""A network divided over ranks: each gets its share of every tensor, and together they say what the whole one says.

The ranks are threads here, and what they say to each other goes through lists. Real processes: test_ranks.py.
"""

import json
import queue
import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
import torch.distributed
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_runs import make_prompts, run_all, run_greedy
from localmodel.api.channel import Sampling
from localmodel.engine import calibration, cpu_kernels, quantize
from localmodel.engine.blocks import BlockPool
from localmodel.engine.errors import GpuCountUnsuitable
from localmodel.engine.launching import make_launch
from localmodel.engine.loader import load_model
from localmodel.engine.network_config import parse_network_config
from localmodel.engine.quantize import QuantizedWeight, RoundedRows
from localmodel.engine.scheduler import Scheduler
from localmodel.engine.sequence import Sequence
from localmodel.engine.service import build_engine
from localmodel.engine.shards import ColumnShare, RowShare, divide
from localmodel.engine.speculation import Speculation
from localmodel.engine.step_plan import PlanReader, PlanWriter

KINDS = [
    "llama", "llama3", "linear", "yarn", "biased", "mistral", "mistral-window", "qwen2", "qwen2-window", "qwen3", "gemma3",
]  # fmt: skip


class ThreadedRanks:
    """torch.distributed between threads, and the team of each."""

    ReduceOp = torch.distributed.ReduceOp

    def __init__(self, count):
        self.count = count
        self._barrier = threading.Barrier(count, timeout=60)
        self._said = [None] * count
        self._own = threading.local()

    def get_world_size(self):
        return self.count

    def all_reduce(self, x, op=None):
        said = self._exchange(x)
        x.copy_(torch.stack(said).amin(0) if op == self.ReduceOp.MIN else sum(said[1:], said[0]))

    def broadcast(self, x, source):
        x.copy_(self._exchange(x)[source])

    def all_gather_into_tensor(self, output, x):
        output.copy_(torch.cat(self._exchange(x)))

    def _exchange(self, x):
        self._said[self._own.rank] = x.clone()
        self._barrier.wait()
        said = list(self._said)
        self._barrier.wait()
        return said

    def team(self, rank):
        ranks, self._own.rank = self, rank

        class Team:
            def begin(self, sizes):
                return divide(sizes, rank, ranks.count)

            def meet(self, device):
                pass

            def agree_on(self, blocks):
                return blocks

        return Team()


class Divided:
    """An engine over `ranks` threads, of which the first plans and the others follow its plans."""

    def __init__(self, config, count, dist):
        self._plans = [queue.SimpleQueue() for _ in range(count - 1)]
        self._writer = PlanWriter(config.max_batch_size)
        self.works = []
        self.models = {}
        self.threads = [
            threading.Thread(target=self._follow, args=(config, dist, rank, plans), daemon=True)
            for rank, plans in enumerate(self._plans, 1)
        ]
        for thread in self.threads:
            thread.start()
        self.models[0] = load_model(config, dist.team(0))
        self.engine = build_engine(self.models[0], self)

    def follow(self, launch):
        def tell_and_launch(works):
            self.works += works
            plan = self._writer.write(works)
            for plans in self._plans:
                plans.put(plan)
            return launch(works)

        return tell_and_launch

    def _follow(self, config, dist, rank, plans):
        self.models[rank] = model = load_model(config, dist.team(rank))
        launch, reader = make_launch(model), PlanReader(model.cache.slots)
        while plan := plans.get():
            launch(reader.read(plan)).wait()

    def close(self):
        for plans in self._plans:
            plans.put(None)
        for thread in self.threads:
            thread.join(60)


@pytest.fixture
def divided(engine_config, monkeypatch):
    """divided(kind, count, **changes) -> Divided"""
    made = []

    def make(kind, count, **changes):
        dist = ThreadedRanks(count)
        monkeypatch.setattr("localmodel.engine.collectives.dist", dist)
        made.append(Divided(engine_config(kind, **changes), count, dist))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize(
    "kind, count", [(kind, 2) for kind in KINDS] + [(f"{kind}-4", 4) for kind in ("llama", "biased", "qwen3", "gemma3")]
)
def test_greedy_tokens_are_those_of_the_whole_network(engine_config, divided, kind, count):
    prompts = make_prompts(5, 1, 100)
    expected = run_greedy(build_engine(load_model(engine_config(kind, max_batch_size=3))), prompts)
    assert run_greedy(divided(kind, count, max_batch_size=3).engine, prompts) == expected


def test_little_room_guesses_seeds_and_shared_prefixes_change_nothing(engine_config, divided):
    """Preempted, verified, drawn and found in the cache: all of that is planned by the first rank alone."""
    start = make_prompts(1, 40, 40)[0]
    again = [7, 8, 9, 10] * 8
    requests = {number: ([*start, number], Sampling(temperature=0, max_tokens=30, ignore_eos=True)) for number in range(4)}
    requests["again"] = (again, Sampling(temperature=0, max_tokens=30, ignore_eos=True))
    requests["drawn"] = (again[:5], Sampling(temperature=1, seed=5, max_tokens=30, ignore_eos=True))
    whole = run_all(build_engine(load_model(engine_config("llama"))), requests)
    shared = divided("llama", 2)
    scheduler = shared.engine._scheduler
    scheduler.pool = BlockPool(14, 16)  # the whole one had 32

    def draft(sequences, rows, others):
        """Two right tokens and a wrong one."""
        ahead = [(s.key, len(s.answer)) for s in sequences]
        return [[*whole[key][at : at + 2], 3][: 29 - at] for key, at in ahead]

    scheduler.speculation.draft = draft
    assert run_all(shared.engine, requests) == whole
    assert run_all(shared.engine, requests) == whole, "with the prefixes of the first time"
    assert scheduler.preemptions_total and scheduler.prefix_tokens_total
    assert 0 < scheduler.speculation.accepted_tokens_total < scheduler.speculation.drafted_tokens_total


def test_weights_of_eight_bits_say_the_same_when_they_are_divided(engine_config, divided):
    prompts = make_prompts(3, 1, 60)
    expected = run_greedy(build_engine(load_model(engine_config("llama", quantization="INT8"))), prompts)
    assert run_greedy(divided("llama", 2, quantization="INT8").engine, prompts) == expected


@pytest.mark.parametrize("kind", ["llama-4", "qwen3-4"])
def test_weights_of_four_bits_are_rounded_on_samples_as_if_they_were_whole(engine_config, divided, monkeypatch, kind):
    """Sums of other order may take a value that lies between two steps to the other one, and whatever is rounded after it is
    another then: so with torch's operators, with which that happens late in these networks."""
    monkeypatch.setattr(cpu_kernels, "_library", None)
    places = {}

    def calibrate(network, *arguments, **more):
        said = calibration.calibrate(network, *arguments, **more)
        places[network] = list(network.tensors())
        return said

    monkeypatch.setattr("localmodel.engine.loader.calibrate", calibrate)
    whole = load_model(engine_config(kind, quantization="INT4"))
    own = threading.local()
    monkeypatch.setattr(quantize, "_observer", lambda x, weight: own.observer(x, weight) if hasattr(own, "observer") else None)

    @contextmanager
    def observing(observer):
        own.observer = observer
        yield
        del own.observer

    monkeypatch.setattr(calibration, "observing", observing)
    models = divided(kind, 2, quantization="INT4")
    run_greedy(models.engine, [[1, 2]])
    count = equal = 0
    for rank, model in models.models.items():
        assert model.rounding == whole.rounding and "13 of 13 matrices" in whole.rounding
        for (_, share), (_, place) in zip(places[model.network], places[whole.network], strict=True):
            if isinstance(share, RowShare | ColumnShare) and isinstance(share.place, RoundedRows):
                part = share.cut(place.target) if isinstance(share, RowShare) else place.target.chunk(2, 1)[rank]
                equal += (share.place.target - part).abs().lt(1e-5).sum().item()
                count += part.numel()
    assert count > 100_000 and equal / count > 0.999


def _stored(place):
    return place if isinstance(place, torch.Tensor) else place.target if isinstance(place, RoundedRows) else place.dense()


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("ranks", [2, 4])
def test_a_share_of_a_rounded_matrix_is_a_part_of_the_rounded_matrix(bits, ranks):
    torch.manual_seed(1)
    source = torch.randn(40, 256)
    cpu = torch.device("cpu")
    whole = QuantizedWeight.empty(40, 256, bits, torch.float32, cpu)
    whole.copy_(source)
    group = 32 if bits == 4 else 0
    for make in (
        lambda rows, columns: QuantizedWeight.empty(rows, columns, bits, torch.float32, cpu, whole=256),
        lambda rows, columns: RoundedRows(torch.empty(rows, columns), bits, group),
    ):
        rows = [RowShare(make(40 // ranks, 256), rank * 40 // ranks, 40) for rank in range(ranks)]
        columns = [ColumnShare(make(40, 256 // ranks), rank * 256 // ranks, 256) for rank in range(ranks)]
        for share in rows + columns:
            assert share.shape == source.shape and share.numel() == source.numel() and share.nbytes < whole.dense().nbytes
            share.copy_(source)
        torch.testing.assert_close(torch.cat([_stored(share.place) for share in rows]), whole.dense(), rtol=0, atol=0)
        torch.testing.assert_close(torch.cat([_stored(share.place) for share in columns], 1), whole.dense(), rtol=0, atol=0)


def test_ranks_hold_equal_shares_of_weights_and_cache(engine_config, divided):
    whole, shared = load_model(engine_config("mistral")), divided("mistral", 2)
    run_greedy(shared.engine, [[1, 2]])
    for model in shared.models.values():
        assert model.parameters == whole.parameters and model.cache.tokens == whole.cache.tokens
        assert model.cache.size_bytes * 2 == whole.cache.size_bytes
        assert 0.5 < model.weights_bytes / whole.weights_bytes < 0.53, "norms are whole, and the vocabulary is padded"


def test_a_count_that_does_not_divide_the_network_is_refused_with_those_that_do(make_model):
    sizes = parse_network_config(json.loads((make_model("mistral-4") / "config.json").read_text()))
    with pytest.raises(GpuCountUnsuitable) as caught:
        divide(sizes, 0, 3)
    assert "over 3 GPUs" in str(caught.value) and "4 key-value heads" in str(caught.value)
    assert str(caught.value).endswith("Counts that work: 1, 2, 4.")
    assert divide(sizes, 0, 1) == sizes
    with pytest.raises(GpuCountUnsuitable, match=r"whole groups of INT4\. Counts that work: 1, 2\.$"):
        divide(replace(sizes, weight_bits=4), 0, 4)  # 64 outputs of the heads / 4 are half a group


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_plan_says_of_every_step_all_but_the_tokens(data):
    """Over random histories with cancels, preemptions and guesses."""
    scheduler = Scheduler(3, 8, BlockPool(12, 4), speculation=Speculation())
    writer, reader, number = PlanWriter(3), PlanReader(3), 0
    for _ in range(40):
        if data.draw(st.booleans()):
            seed = data.draw(st.sampled_from([None, 3]))
            prompt = tuple(data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=20)))
            scheduler.add(Sequence(number, prompt, 12, sampling=Sampling(temperature=0, seed=seed)))
            number += 1
        if data.draw(st.integers(0, 9)) == 0:
            scheduler.end(data.draw(st.integers(0, number)), "cancelled")
        works = scheduler.plan()
        plan = writer.write(works)
        read = reader.read(plan)
        assert len(read) == len(works)
        for work, other in zip(works, read, strict=True):
            assert other._replace(sequence=None, draft=(), life=0, blocks=list(other.blocks)) == work._replace(
                sequence=None, draft=(), life=0, blocks=list(work.blocks)
            )
            assert (len(other.draft), other.decodes, other.choices) == (len(work.draft), work.decodes, work.choices)
            assert (other.sequence.sampling.seed is None) == (work.sequence.sampling.seed is None)
            count = work.count - len(work.draft)
            assert len(other.sequence.tokens(other.start, count)) == count
        tokens = [data.draw(st.integers(0, 1)) for work in works for _ in range(work.choices)]
        scheduler.commit(works, tokens, 0.01)

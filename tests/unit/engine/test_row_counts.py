"""Steps on a processor have few different counts of rows, so the code that oneDNN keeps for them is bounded and planned for."""

import ctypes
import random

import pytest
import torch

from localmodel.api.channel import Sampling
from localmodel.engine.launching import make_launch
from localmodel.engine.loader import CPU_CHUNK, load_model
from localmodel.engine.packed_weight import PackedWeight, can_pack
from localmodel.engine.row_counts import COARSE_ROWS, CODE_BYTES, code_bytes, round_up
from localmodel.engine.sequence import Sequence, Work

BLOCKS = 8
MOST_ROWS = CPU_CHUNK + 24
COUNTS = 16 + 8 + 14
"""Up to so many rows."""


@pytest.mark.parametrize("multiple", [1, 2, 4])
def test_few_counts_none_too_small_and_none_too_large_by_much(multiple):
    counts = {round_up(rows, multiple) for rows in range(1, 145)}
    assert len(counts) <= 16 + 8 + 28 and not any(count % multiple for count in counts)
    assert all(0 <= round_up(rows, multiple) - rows < COARSE_ROWS for rows in range(145))
    assert round_up(0, multiple) == 0
    assert [round_up(rows) for rows in (1, 7, 16, 17, 31, 33)] == [1, 7, 16, 18, 32, 36]


def test_the_code_of_all_counts_is_planned_for():
    assert code_bytes(24, 3) == (4 * 20 + 3) * CODE_BYTES


class MallInfo(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
    )]  # fmt: skip


def allocated_bytes() -> int:
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        pytest.skip("needs glibc")
    library.mallinfo2.restype = MallInfo
    now = library.mallinfo2()
    return now.uordblks + now.hblkhd


@pytest.mark.skipif(not can_pack(torch.float32), reason="weights are not packed here")
def test_products_of_all_counts_take_no_more_memory_than_planned():
    """An odd shape, so that no other test has made its code."""
    most = MOST_ROWS
    weight = PackedWeight(torch.randn(208, 112))
    rows = torch.randn(most, 112)
    with torch.inference_mode():
        weight.multiply(torch.randn(most + 8, 112), None)
        before = allocated_bytes()
        for count in range(1, most + 1):
            weight.multiply(rows[: round_up(count)], None)
        grown = allocated_bytes() - before
    assert grown <= COUNTS * CODE_BYTES


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_step_has_another_count(engine_config, dtype):
    """Any mix of rows that decode, drafts, and pieces of prompts, some with seeds."""
    model = load_model(engine_config("llama", max_batch_size=8, dtype=dtype))
    seen = set()

    def network(batch, cache, rows):
        computed = len(batch.tokens)
        seen.update((computed, computed if rows is None else len(rows)))
        return torch.zeros(computed if rows is None else len(rows), model.network_config.vocabulary)

    object.__setattr__(model, "network", network)
    launch, chance = make_launch(model), random.Random(3)
    for _ in range(200):
        works, left = [], CPU_CHUNK
        for slot in range(chance.randint(1, 8)):
            seed = chance.choice([None, 1])
            draft = (5,) * chance.choice([0, 0, 2])
            count = chance.randint(1, left) if left and chance.random() < 0.3 else 0
            left -= count
            sampling = Sampling(temperature=0, seed=seed)
            sequence = Sequence(slot, (0,) * 90, 9, sampling=sampling, answer=[0], blocks=list(range(BLOCKS)))
            if count:
                works.append(Work(sequence, slot, 0, count, chance.random() < 0.5, 0, sequence.blocks))
            else:
                works.append(Work(sequence, slot, 90, 1 + len(draft), True, 0, sequence.blocks, draft))
        assert len(launch(works).wait()) == sum(work.choices for work in works)
    assert 10 < len(seen) <= COUNTS

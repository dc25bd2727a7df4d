"""How products of many rows are cut on a Hopper card, and that their kernel compiles for one: it runs on nothing else."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # as test_card_kernels

from localmodel.engine.weight_hopper import SMALL, choose_columns, plan_work
from localmodel.engine.weight_hopper_kernel import find_item
from localmodel.engine.weight_hopper_sum import room_for, sum_tiles


@pytest.mark.parametrize("rows", [17, 64, 90, 100, 150, 256, 300, 2000])
@pytest.mark.parametrize(("count", "steps"), [(4608, 56), (37888, 56), (37888, 4), (3584, 296), (152064, 28), (200, 3), (8, 1)])
def test_every_step_of_every_tile_is_computed_once(rows, count, steps):
    columns = choose_columns(rows)
    for programs in (132, 264):
        work = plan_work(rows, count, steps, columns, programs)
        assert work.whole % work.blocks == 0, "what is cut begins with a row of the weight"
        done = {}
        for item in range(work.items):
            tile, start, end = find_item.fn(item, work.whole, work.splits, steps)
            assert start < end, "who has nothing to do waits for ever"
            done.setdefault(tile, []).extend(range(start, end))
        assert sorted(done) == list(range(-(-count // 128) * work.blocks))
        assert all(sorted(each) == list(range(steps)) for each in done.values())


def test_few_tiles_are_cut_for_all_programs():
    assert plan_work(256, 3584, 296, 256, 132) == (1, 0, 4, 112)
    assert plan_work(256, 37888, 56, 256, 132) == (1, 264, 4, 392)
    assert plan_work(256, 16384, 56, 256, 132) == (1, 128, 1, 128), "a turn that is nearly full"


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize(
    ("rows", "count", "steps", "programs", "splits"),
    [(17, 304, 50, 40, 10), (17, 296, 30, 22, 6), (130, 1160, 30, 8, 4), (300, 1160, 61, 9, 4), (90, 8, 44, 7, 7)],
)
def test_parts_are_added_up_where_they_belong(rows, count, steps, programs, splits, bits):
    """In Triton's interpreter; what the kernel does not write is no number."""
    columns = choose_columns(rows)
    work = plan_work(rows, count, steps, columns, programs)
    assert work.splits == splits
    torch.manual_seed(0)
    values = torch.randn(steps, work.blocks * columns, -(-count // 128) * 128)
    partials = room_for(work.items - work.whole, columns, values).fill_(torch.nan)
    for item in range(work.whole, work.items):
        tile, start, end = find_item.fn(item, work.whole, work.splits, steps)
        n, m = tile // work.blocks * 128, tile % work.blocks * columns
        for group in range(2):
            lines = slice(n + 64 * group, n + 64 * group + 64)
            part = as_in_registers(values[start:end, m : m + columns, lines].sum(0))
            wanted = -(-min(columns, rows - m) // 8) * 8 * 64
            partials[item - work.whole].view(2, -1)[group, :wanted] = part[:wanted]
    scales, bias, output = torch.randn(count), torch.randn(count), torch.zeros(rows, count)
    for each in (bias, None):
        sum_tiles(partials, scales, each, output, work.whole, work.splits, columns, bits)
        expected = values.sum(0)[:rows, :count] * (scales if bits == 8 else 1) + (0 if each is None else each)
        cut = work.whole // work.blocks * 128
        torch.testing.assert_close(output[:, cut:], expected[:, cut:], rtol=1e-4, atol=1e-4)
        assert not output[:, :cut].any(), "tiles of the other kernel"


def as_in_registers(part):
    """[columns, 64] of which thread 4 * a + b of warp w holds columns 8 * j + 2 * b + (0, 1) of lines 16 * w + a + (0, 8)."""
    columns = part.shape[0]
    held = torch.empty(columns // 8, 2, 2, 4, 8, 4)
    for column in range(columns):
        for line in range(64):
            at = column // 8, column % 2, line // 8 % 2, line // 16, line % 8, column % 8 // 2
            held[at] = part[column, line]
    return held.flatten()


@pytest.mark.parametrize(("bits", "columns"), [(8, 16), (8, 96), (4, 96), (8, 192), (4, 192), (4, 256)])
def test_it_compiles_for_the_card_and_fits_into_its_registers(bits, columns, tmp_path):
    programs = 2 if columns <= SMALL else 1
    shared, ptx = compiled_by("compile_hopper.py", tmp_path, bits, columns).split("\n", 1)
    assert programs * (int(shared) + 1024) <= 228 * 1024
    assert re.search(r"wgmma\.mma_async\.sync\.aligned\.m64n\d+k16\.f32\.bf16\.bf16 \{[^}]*\}, \{", ptx), "weights in registers"
    assert not re.search(r"\.local\b", ptx), "numbers were moved out of registers"


@pytest.mark.parametrize("bits", [8, 4])
def test_sums_read_16_bytes_of_each_part_at_once_and_write_8(bits, tmp_path):
    found = {text.split()[0]: text for text in compiled_by("compile_sums.py", tmp_path, bits).split("=== ")[1:]}
    assert found.keys() == {"_sum_kernel", "sum_tiles_kernel"}
    for ptx in found.values():
        assert len(re.findall(r"ld\.global\.v4\.b32", ptx)) == 4
        assert re.findall(r"st\.global\.\S+", ptx) == ["st.global.v2.b32"]


def compiled_by(script, directory, *arguments):
    """What it prints: a process where Triton compiles, for other tests here use its interpreter."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(directory), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(Path(__file__).with_name(script)), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout

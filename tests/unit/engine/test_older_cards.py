"""What was written on a large new card runs on every card that has bfloat16: instructions and memory."""

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from engine_runs import compile_in_another

HERE = Path(__file__).parent
TRITON = find_spec("triton")  # not imported before test_card_kernels has chosen the interpreter
PTXAS = Path(TRITON.origin if TRITON and TRITON.origin else "").parent / "backends" / "nvidia" / "bin" / "ptxas"
CUOBJDUMP = PTXAS.with_name("cuobjdump")
OUTPUTS = {"NIBBLES_BFLOAT16": "b32", "BYTES_BFLOAT16": "b32", "BYTES_FLOAT": "f32"}


def program(body, output, card):
    """A kernel with `body` in it, whose last operand is its input."""
    operands = sorted({int(number) for number in re.findall(r"\$(\d+)", body)})
    names = {number: f"%i{number}" if number == operands[-1] else f"%o{number}" for number in operands}
    body = re.sub(r"\$(\d+)", lambda found: names[int(found[1])], body)
    registers = f".reg .{output} %o<{len(operands)}>; .reg .b32 %i<{len(operands) + 1}>; mov.b32 %i{operands[-1]}, 1;"
    return f".version 8.0\n.target {card}\n.address_size 64\n.entry kernel() {{ {registers} {body} ret; }}\n"


@pytest.mark.skipif(not PTXAS.exists(), reason="this Triton brings no assembler")
@pytest.mark.parametrize("card", ["sm_80", "sm_90"])
@pytest.mark.parametrize("name", OUTPUTS)
def test_every_card_with_bfloat16_knows_the_instructions(name, card, tmp_path):
    from localmodel.engine import weight_bits

    source = tmp_path / "kernel.ptx"
    source.write_text(program(getattr(weight_bits, name).value, OUTPUTS[name], card))
    command = [PTXAS, f"-arch={card}", source, "-o", tmp_path / "kernel"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_kernel_fits_into_the_least_shared_memory_of_a_card(tmp_path):
    taken = compile_in_another(HERE / "compile_small_card.py", tmp_path)
    assert {name for name, _ in taken} >= {"_chunk_kernel", "_decode_kernel", "_rows_kernel"}
    assert [each for each in taken if int(each[1]) > 99 * 1024] == []


@pytest.mark.skipif(not CUOBJDUMP.exists(), reason="this Triton brings no tool for it")
def test_no_kernel_of_attention_needs_much_of_a_stack(tmp_path):
    """Of an H100 each byte takes 264 KiB; what is planned for CUDA itself holds 320."""
    taken = compile_in_another(HERE / "compile_attention.py", tmp_path, str(CUOBJDUMP))
    assert {(dtype, size) for _, dtype, size, _ in taken} >= {("torch.float32", "256"), ("torch.bfloat16", "80")}
    assert [each for each in taken if int(each[-1]) > 320] == []


def test_numbers_of_one_row_stay_with_their_thread(tmp_path):
    """A compiler that lays blocks out otherwise than we think moves them through shared memory in every step, and is right."""
    taken = compile_in_another(HERE / "compile_one_row.py", tmp_path, "80", "90")
    assert len(taken) == 2 * 3
    assert {name for name, *_ in taken} == {"_row_kernel", "_row8_planes_kernel", "_row4_planes_kernel"}
    assert [each for each in taken if int(each[1]) > int(each[2])] == []
    assert [int(ahead) for *_, ahead in taken] == [0, 0, 0, 1, 8 + 8, 8 * 3], "asked for before the kernel ahead has ended"

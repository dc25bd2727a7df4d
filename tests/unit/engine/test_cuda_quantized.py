"""Weights of 8 and 4 bits on a CUDA card: the same values as on a CPU, whatever kernel multiplies them."""

import pytest
import torch

from engine_runs import make_prompts, run_greedy
from localmodel.engine.loader import load_model
from localmodel.engine.quantize import QuantizedWeight
from localmodel.engine.service import build_engine
from localmodel.engine.weight_products import MOST_ROWS, multiply_one

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("shape", [(200, 256), (72, 576), (9000, 96), (8300, 160), (8320, 4736), (3584, 1088)])
def test_every_number_of_rows_gives_the_dense_product(shape, bits, dtype):
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=dtype)
    here = QuantizedWeight.empty(*shape, bits, dtype, matrix.device)
    here.copy_(matrix)
    weight = QuantizedWeight.empty(*shape, bits, dtype, torch.device("cuda"))
    weight.copy_(matrix)
    assert (weight.data.cpu() != here.data).double().mean() < 1e-5, "more than a tie in a quotient's last bit"
    weight.data.copy_(here.data)
    exact = here.dense()
    torch.testing.assert_close(weight.dense().cpu(), exact)
    bias = torch.randn(shape[0], dtype=dtype)
    for rows in (1, 2, 15, 17, 33, 64, 65, 97, 129, 193, 300, MOST_ROWS + 1):
        x = torch.randn(rows, shape[1], dtype=dtype)
        for each in (None, bias):
            expected = x.double() @ exact.double().T + (0 if each is None else each.double())
            product = weight.multiply(x.cuda(), each if each is None else each.cuda()).cpu().double()
            error = ((product - expected).norm() / expected.norm()).item()
            assert error < (1e-5 if dtype == torch.float32 else 6e-3), (rows, error)


@pytest.mark.parametrize("bits", [8, 4])
def test_many_rows_where_some_tiles_are_computed_whole_and_some_in_parts(bits):
    torch.manual_seed(0)
    weight = QuantizedWeight.empty(37_880, 2048, bits, torch.bfloat16, torch.device("cuda"))
    weight.copy_(torch.randn(37_880, 2048))
    bias = torch.randn(37_880, dtype=torch.bfloat16, device="cuda")
    exact = weight.dense().double().T
    for rows in (17, 60, 90, 128, 170, 250, 330, 600):
        x = torch.randn(rows, 2048, dtype=torch.bfloat16, device="cuda")
        expected = x.double() @ exact + bias.double()
        assert ((weight.multiply(x, bias).double() - expected).norm() / expected.norm()).item() < 4e-3, rows


@pytest.mark.parametrize("shape", [(200, 256), (9000, 1000)])
def test_one_row_of_sixteen_bits(shape):
    torch.manual_seed(0)
    weight = torch.randn(shape, dtype=torch.bfloat16, device="cuda")
    x, bias = (torch.randn(1, size, dtype=torch.bfloat16, device="cuda") for size in (shape[1], shape[0]))
    expected = x.double() @ weight.double().T + bias.double()
    assert ((multiply_one(x, weight, bias[0]).double() - expected).norm() / expected.norm()).item() < 4e-3


@pytest.mark.parametrize("kind", ["llama", "qwen2", "biased"])
@pytest.mark.parametrize("quantization", ["INT8", "INT4"])
def test_tokens_are_those_of_the_cpu(cuda_config, engine_config, edit_config, nearest_values, kind, quantization):
    directory = edit_config(kind, max_position_embeddings=1024)
    changes = {"quantization": quantization, "context_window": 1024}
    prompts = [*make_prompts(5, 1, 60), *make_prompts(1, 900, 900)]
    engine = build_engine(load_model(cuda_config(directory, **changes)))
    expected = run_greedy(build_engine(load_model(engine_config(directory, **changes))), prompts)
    assert run_greedy(engine, prompts) == expected
    assert [run_greedy(engine, [prompt])[0] for prompt in prompts] == expected


def test_a_row_with_one_large_number_is_multiplied_as_exactly_as_in_bfloat16():
    """Whole numbers have one step for a whole row of x: the large one makes it coarse for the others."""
    torch.manual_seed(0)
    weight = QuantizedWeight.empty(256, 4096, 8, torch.bfloat16, torch.device("cuda"))
    weight.copy_(torch.randn(256, 4096))
    unrounded = weight.data.double() * weight.scales.double().unsqueeze(1)
    for size in (1, 30, 1000):
        x = torch.randn(200, 4096, device="cuda")
        x[:, 7] *= size
        exact = x.double() @ unrounded.T
        rounded = x.bfloat16()
        ours = (weight.multiply(rounded, None).double() - exact).norm() / exact.norm()
        theirs = (torch.nn.functional.linear(rounded, weight.dense()).double() - exact).norm() / exact.norm()
        assert ours < 1.1 * theirs, size


def test_four_bits_are_rounded_on_samples_as_on_a_cpu(cuda_config, engine_config):
    """Sums are rounded otherwise there, so some values differ by a step; hardly any."""
    here, there = (load_model(make("llama", quantization="INT4", dtype="float32")) for make in (engine_config, cuda_config))
    assert here.rounding == there.rounding and "13 of 13" in there.rounding
    for (name, ours), (_, theirs) in zip(here.network.tensors(), there.network.tensors(), strict=True):
        if isinstance(theirs, QuantizedWeight):
            different = (theirs.dense().cpu() - ours.target).abs() > 1e-4
            assert different.double().mean() < 0.1, name

"""Products with rounded weights against dense ones, whatever divides nothing; without a card in Triton's interpreter."""

# ruff: noqa: E402 - the interpreter is chosen before kernels are imported

import os

import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # as test_card_kernels

from localmodel.engine.quantize import QuantizedWeight
from localmodel.engine.weight_expand import expand
from localmodel.engine.weight_planes_kernel import multiply_planes
from localmodel.engine.weight_row_kernel import multiply_row
from localmodel.engine.weight_row_planes_kernel import multiply_row_planes
from localmodel.engine.weight_rows_kernel import multiply_rows


def make(count, size, bits, dtype=torch.bfloat16):
    """(a rounded weight, x [3, size], bias)"""
    torch.manual_seed(count)
    weight = QuantizedWeight.empty(count, size, bits, dtype, torch.device(DEVICE))
    weight.copy_(torch.randn(count, size, dtype=dtype))
    assert weight.bits == bits
    return weight, torch.randn(3, size, dtype=dtype, device=DEVICE), torch.randn(count, dtype=dtype, device=DEVICE)


def check(product, x, weight, bias, error=6e-3):
    expected = x.double() @ weight.dense().double().T + (0 if bias is None else bias.double())
    assert product.shape == expected.shape
    assert ((product.double() - expected).norm() / expected.norm()).item() < error


@pytest.mark.parametrize(
    ("count", "size", "bits"),
    [(37, 1008, 8), (21, 2064, 8), (8, 16, 8), (37, 96, 4), (21, 576, 4), (6, 3584, 4), (9, 2112, 4), (5, 1088, 4), (3, 32, 4)],
)
@pytest.mark.parametrize("ahead", [1, 2, 3])
def test_one_row_in_whole_numbers(count, size, bits, ahead):
    weight, x, bias = make(count, size, bits)
    x[0, :16] *= 1000  # a large number makes coarse only those that share its step
    for each in (None, bias):
        tables = weight.data, weight.scales, weight.minima
        product = multiply_row_planes(x[:1], *tables, each, bits, weight.group, rows=4, ahead=ahead, warps=1)
        check(product, x[:1], weight, each)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_no_number_stays_none_in_whole_numbers(bits, number):
    weight, x, _ = make(5, 2112, bits)
    x[0, 2000] = number
    product = multiply_row_planes(x[:1], weight.data, weight.scales, weight.minima, None, bits, weight.group, rows=4, warps=1)
    assert not product.isfinite().any()


@pytest.mark.parametrize("ahead", [1, 2, 3])
@pytest.mark.parametrize("size", [1000, 8])
def test_one_row_of_16_bits(size, ahead):
    torch.manual_seed(0)
    weight, x, bias = (torch.randn(shape, dtype=torch.bfloat16, device=DEVICE) for shape in ((37, size), (1, size), (37,)))
    expected = x.double() @ weight.double().T + bias.double()
    product = multiply_row(x, weight, bias, rows=4, ahead=ahead, warps=1)
    assert ((product.double() - expected).norm() / expected.norm()).item() < 6e-3


@pytest.mark.parametrize(("count", "size", "bits"), [(37, 1000, 8), (70, 97, 8), (37, 96, 4), (21, 576, 4), (9, 2112, 4)])
def test_a_few_rows_whole_and_in_parts(count, size, bits):
    """In float32: the interpreter multiplies bfloat16 by its bits."""
    weight, x, bias = make(count, size, bits, torch.float32)
    for splits in (1, 3):
        product = multiply_rows(
            x, weight.data, weight.scales, weight.minima, bias, bits, weight.group, rows=32, columns=16, splits=splits
        )
        check(product, x, weight, bias, 1e-5)


@pytest.mark.parametrize("splits", [1, 3])
def test_rows_in_whole_numbers(splits):
    weight, x, bias = make(37, 1040, 8)
    product = multiply_planes(x, weight.data, weight.scales, bias, rows=32, columns=16, tile=128, splits=splits)
    check(product, x, weight, bias)


@pytest.mark.parametrize(("size", "bits"), [(1000, 8), (1056, 4), (2112, 4)])
def test_a_weight_is_made_dense(size, bits, monkeypatch):
    weight, _, _ = make(5, size, bits)
    monkeypatch.setattr("torch.cuda.is_current_stream_capturing", lambda: False)
    made = expand(weight.data, weight.scales, weight.minima, size, bits, weight.group, torch.bfloat16)
    here = QuantizedWeight(bits, weight.group, weight.data.cpu(), weight.scales.cpu(), weight.minima.cpu())
    torch.testing.assert_close(made.cpu(), here.dense())

"""Weights of 8 and 4 bits: how near they come, how they are loaded, and that the engine computes with them."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from engine_runs import make_prompts, run_greedy
from localmodel.engine.loader import load_model
from localmodel.engine.packing import GROUPS, SHORT_ROW_GROUP, pack, unpack
from localmodel.engine.quantize import QuantizedWeight, RoundedRows, make_weight, places_of
from localmodel.engine.service import build_engine
from localmodel.engine.words import WORDS_GROUP

CPU = torch.device("cpu")


def quantize(matrix, bits, short=SHORT_ROW_GROUP):
    weight = QuantizedWeight.empty(*matrix.shape, bits, matrix.dtype, matrix.device, short)
    weight.copy_(matrix)
    return weight


def test_eight_bits_are_within_half_a_step_of_each_row():
    torch.manual_seed(0)
    matrix = torch.randn(40, 96) * torch.logspace(-3, 2, 40).unsqueeze(1)
    weight = quantize(matrix, 8)
    steps = matrix.abs().amax(dim=1, keepdim=True) / 127
    assert ((weight.dense() - matrix).abs() <= steps * 0.501).all()
    assert weight.nbytes == 40 * 96 + 40 * 4 and weight.shape == matrix.shape and weight.numel() == matrix.numel()
    for each in (weight, quantize(matrix, 4)):
        torch.testing.assert_close(each.rows(torch.tensor([3, 1])), each.dense()[[3, 1]])


@pytest.mark.parametrize("columns, group", [(2048, 128), (2112, 64), (2080, 32), (576, 32), (96, 32)])
def test_four_bits_are_nearer_than_the_whole_range_of_a_group_would_allow(columns, group):
    torch.manual_seed(0)
    matrix = torch.randn(24, columns)
    weight = quantize(matrix, 4)
    assert (weight.bits, weight.group) == (4, group)
    groups = matrix.unflatten(1, (-1, group))
    low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    plain = (((groups - low) / (high - low) * 15).round() / 15 * (high - low) + low).flatten(1)
    ours, theirs = ((each - matrix).square().mean() for each in (weight.dense(), plain))
    assert ours < 0.97 * theirs
    assert weight.nbytes == 24 * columns // 2 + 2 * 24 * columns // group * 4


def test_a_group_of_one_value_is_exact_and_what_no_group_divides_keeps_eight_bits():
    constant = torch.full((2, 128), 0.25)
    assert torch.equal(quantize(constant, 4).dense(), constant)
    assert torch.equal(quantize(torch.zeros(2, 96), 8).dense(), torch.zeros(2, 96))
    assert quantize(torch.randn(3, 40), 4).bits == 8
    assert min(GROUPS) == 32


@pytest.mark.parametrize("columns, group", [(576, 64), (576, 32), (512, 128), (96, 32)])
def test_what_is_packed_is_unpacked(columns, group):
    numbers = torch.randint(0, 16, (5, columns // group, group), dtype=torch.uint8)
    data = pack(numbers)
    assert data.shape == (5, columns // 2)
    assert torch.equal(unpack(data, group), numbers)
    assert data[2, 1] >> 4 == numbers[2, 0, 1 + group // 2], "what the kernels take apart"


def test_parts_are_loaded_into_one_matrix():
    torch.manual_seed(0)
    first, second = torch.randn(8, 128), torch.randn(16, 128)
    for bits in (8, 4):
        whole = QuantizedWeight.empty(24, 128, bits, torch.float32, CPU)
        for place, part in zip(whole.split([8, 16]), (first, second), strict=True):
            assert place.shape == part.shape
            place.copy_(part)
        assert torch.equal(whole.dense(), quantize(torch.cat([first, second]), bits).dense())
        x = torch.randn(3, 128)
        torch.testing.assert_close(whole.multiply(x, None), F.linear(x, whole.dense()))


def test_on_a_cpu_a_matrix_stays_dense_and_has_the_rounded_values():
    torch.manual_seed(0)
    matrix = torch.randn(12, 128)
    weight = make_weight(12, 128, 4, torch.float32, CPU)
    assert isinstance(weight, torch.Tensor)
    (place,) = places_of(weight, 4, [12])
    assert isinstance(place, RoundedRows) and place.nbytes == weight.nbytes and (place.bits, place.group) == (4, 32)
    place.copy_(matrix)
    assert torch.equal(weight, quantize(matrix, 4).dense())
    assert places_of(weight, 16, [12])[0].data_ptr() == weight.data_ptr()


@pytest.mark.parametrize("kind, bits", [("llama", 8), ("qwen2", 4)])
def test_an_engine_says_what_a_model_of_rounded_weights_says(engine_config, edit_config, nearest_values, kind, bits):
    """The reference is a checkpoint that holds the rounded values already."""
    prompts = make_prompts(3, 5, 40)
    plain = run_greedy(build_engine(load_model(engine_config(kind))), prompts)
    ours = run_greedy(build_engine(load_model(engine_config(kind, quantization=f"INT{bits}"))), prompts)
    directory = edit_config(kind)
    tensors = load_file(directory / "model.safetensors")
    for name, tensor in tensors.items():
        if tensor.ndim == 2:
            words = "embed_tokens" in name or "lm_head" in name
            tensors[name] = quantize(tensor, bits, WORDS_GROUP if words else SHORT_ROW_GROUP).dense()
    save_file(tensors, directory / "model.safetensors")
    assert ours == run_greedy(build_engine(load_model(engine_config(directory))), prompts)
    assert bits == 8 or ours != plain

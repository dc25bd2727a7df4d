"""Weights in a processor's own order: the same products, each row rounded as in any company, and all of them packed."""

import pytest
import torch
import torch.nn.functional as F

from localmodel.engine.attention import Segment, SegmentedAttention, attend_one
from localmodel.engine.linear import Linear
from localmodel.engine.loader import load_model
from localmodel.engine.packed_weight import PackedWeight, can_pack, find_parts

DTYPES = [dtype for dtype in (torch.float32, torch.bfloat16) if can_pack(dtype)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_product_is_the_same_and_a_row_does_not_know_its_company(dtype):
    torch.manual_seed(0)
    weight, bias, x = torch.randn(200, 96, dtype=dtype), torch.randn(200, dtype=dtype), torch.randn(40, 96, dtype=dtype)
    packed = PackedWeight(weight)
    with torch.inference_mode():
        expected = F.linear(x.double(), weight.double(), bias.double())
        torch.testing.assert_close(
            packed.multiply(x, bias).double(), expected, rtol=2e-2, atol=0.3 if x.dtype.itemsize == 2 else 1e-4
        )
        pairs = packed.multiply(x[:2], None)
        for count in range(2, 41):
            assert torch.equal(packed.multiply(x[:count], None)[:2], pairs)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3"])
def test_every_matrix_of_a_loaded_network_is_packed(engine_config, kind):
    network = load_model(engine_config(kind)).network
    linears = [part for part in find_parts(network) if isinstance(part, Linear)]
    assert len(linears) == 4 * len(network.blocks)
    assert all(isinstance(each.weight, PackedWeight) for each in linears) and isinstance(network.words.head, PackedWeight)
    assert isinstance(network.words.embedding, torch.Tensor), "rows of it are read"


@pytest.mark.parametrize("window", [None, 5])
def test_rows_that_decode_read_their_own_past(window):
    """Beside a prompt, with a draft, padded, and in blocks that are no neighbours."""
    torch.manual_seed(0)
    keys, values = torch.randn(2, 64, 2, 8)
    scattered = torch.tensor([40, 41, 50, 51, 44])
    segments = [
        Segment(0, 1, 9, slice(3, 13)),
        Segment(1, 3, 4, slice(20, 27), apart=True),
        Segment(4, 1, 4, scattered),
        Segment(5, 4, 2, slice(30, 36)),
    ]
    queries = torch.randn(11, 6, 8)
    mixed = SegmentedAttention(segments)(queries, keys, values, 0.3, window)
    for segment in segments:
        here = queries[segment.row : segment.row + segment.count]
        expected = attend_one(here, keys[segment.past], values[segment.past], segment.start, 0.3, window)
        torch.testing.assert_close(mixed[segment.row : segment.row + segment.count], expected)
    assert not mixed[9:].any()

"""The small steps of a processor: the same as torch's operators, also where they were not built, and each row by itself."""

import shutil

import pytest
import torch
import torch.nn.functional as F

from localmodel.engine import cpu_kernels
from localmodel.engine.attention import Segment, SegmentedAttention, attend_one
from localmodel.engine.layers import rotate

DTYPES = [torch.float32, torch.bfloat16]
needs_kernels = pytest.mark.skipif(not cpu_kernels.built(), reason="the environment was made without a C compiler")


@pytest.fixture
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def close(made: torch.Tensor, exact: torch.Tensor) -> None:
    """Rounded once: half a unit of the last place, and what sums in float32 may differ by."""
    assert made.shape == exact.shape
    assert torch.allclose(made.double(), exact, rtol=2**-8 if made.dtype == torch.bfloat16 else 2e-6, atol=2e-6)


@pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="no C compiler")
def test_an_environment_with_a_compiler_has_them():
    assert cpu_kernels.built(), "make venv builds them"


@needs_kernels
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [7, 576])
def test_norm(dtype, size):
    torch.manual_seed(0)
    x, delta, weight = torch.randn(5, size).to(dtype), torch.randn(5, size).to(dtype), torch.randn(size).to(dtype)
    total, normed = cpu_kernels.add_rms_norm(x, delta, weight, 1e-5)
    assert torch.equal(total, x + delta)
    close(normed, F.rms_norm(total.double(), (size,), weight.double(), 1e-5))
    assert torch.equal(cpu_kernels.rms_norm(total, weight, 1e-5), normed)


@needs_kernels
@pytest.mark.parametrize("dtype", DTYPES)
def test_gated_silu(dtype):
    """Over all exponents, and where exp leaves the range of float32."""
    torch.manual_seed(0)
    spread = torch.tensor([[0.01], [1.0], [30.0], [200.0]])
    gate_up = torch.cat([torch.randn(4, 70) * spread, torch.randn(4, 70)], dim=1).to(dtype)
    gate, up = gate_up.double().chunk(2, dim=1)
    close(cpu_kernels.gated_silu(gate_up), F.silu(gate) * up)


@needs_kernels
@pytest.mark.parametrize("dtype", DTYPES)
def test_turned_and_stored(dtype):
    torch.manual_seed(0)
    heads, kv_heads, size, stored = 6, 2, 20, [9, 0, 4]
    qkv, cos, sin = torch.randn(4, heads + 2 * kv_heads, size), torch.randn(4, 1, size), torch.randn(4, 1, size)
    cos[..., size // 2 :], sin[..., size // 2 :] = cos[..., : size // 2], -sin[..., : size // 2]
    qkv, cos, sin = qkv.to(dtype), cos.to(dtype), sin.to(dtype)
    keys, values = torch.zeros(2, 12, kv_heads, size, dtype=dtype)
    queries = cpu_kernels.turn_and_store(qkv, (cos, sin), torch.tensor(stored), keys, values, heads)
    turned = rotate(qkv[:, : heads + kv_heads].double(), (cos.double(), sin.double()))
    close(queries, turned[:, :heads])
    close(keys[stored], turned[:3, heads:])
    assert torch.equal(values[stored], qkv[:3, heads + kv_heads :])
    others = [row for row in range(12) if row not in stored]
    assert not keys[others].any() and not values[others].any()


@pytest.mark.parametrize("by", [pytest.param("kernels", marks=needs_kernels), "torch"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [None, 5, 40])
@pytest.mark.parametrize(("heads", "kv_heads", "size"), [(6, 2, 8), (9, 3, 64), (18, 1, 128), (4, 4, 80)])
def test_attention_of_all_kinds_of_rows(monkeypatch, by, dtype, window, heads, kv_heads, size):
    """Rows that decode near and far, beside a prompt, with a draft, padded, and in blocks that are no neighbours."""
    if by == "torch":
        monkeypatch.setattr(cpu_kernels, "_library", None)
    torch.manual_seed(0)
    keys, values = torch.randn(2, 160, kv_heads, size).to(dtype)
    segments = [
        Segment(0, 1, 70, slice(3, 74)),
        Segment(1, 3, 31, slice(20, 54), apart=True),
        Segment(4, 1, 4, torch.tensor([140, 141, 150, 151, 144])),
        Segment(5, 1, 0, slice(100, 101)),
        Segment(6, 4, 2, slice(130, 136)),
    ]
    queries = torch.randn(12, heads, size).to(dtype)
    mixed = SegmentedAttention(segments)(queries, keys, values, 0.3, window)
    for segment in segments:
        here = slice(segment.row, segment.row + segment.count)
        read = (x.double() for x in (queries[here], keys[segment.past], values[segment.past]))
        exact = attend_one(*read, segment.start, 0.3, window)
        assert torch.allclose(mixed[here].double(), exact, rtol=0, atol=2e-2 if dtype == torch.bfloat16 else 1e-5)
    assert not mixed[10:].any()


@needs_kernels
@pytest.mark.parametrize("threads", [1, 2], indirect=True)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_has_the_same_bits_alone_and_in_company(threads, dtype):
    """Enough rows that threads share them."""
    torch.manual_seed(0)
    rows, size = 96, 512
    x, delta, weight = torch.randn(rows, size).to(dtype), torch.randn(rows, size).to(dtype), torch.randn(size).to(dtype)
    gate_up = torch.randn(rows, 2 * size).to(dtype)
    keys, values = torch.randn(2, 320, 2, 64).to(dtype)
    queries = torch.randn(rows, 8, 64).to(dtype)
    segments = [Segment(at, 1, 30 + 2 * at, slice(at, 31 + 3 * at)) for at in range(rows)]
    together = SegmentedAttention(segments)(queries, keys, values, 0.1, None)
    normed, gated = cpu_kernels.add_rms_norm(x, delta, weight, 1e-5)[1], cpu_kernels.gated_silu(gate_up)
    for row in (0, 1, 50, 95):
        one = slice(row, row + 1)
        assert torch.equal(cpu_kernels.add_rms_norm(x[one], delta[one], weight, 1e-5)[1], normed[one])
        assert torch.equal(cpu_kernels.gated_silu(gate_up[one]), gated[one])
        alone = SegmentedAttention([Segment(0, 1, segments[row].start, segments[row].past)])
        assert torch.equal(alone(queries[one], keys, values, 0.1, None), together[one])

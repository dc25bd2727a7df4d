"""Weights of 8 or 4 bits made 16 again on a card, for the library's dense product.

Why it exists: with many rows the arithmetic decides, and the dense product is the fastest. Forms of a weight: see
`weight_rows_kernel`.
"""

import torch
import triton.language as tl
from torch import Tensor

import triton
from localmodel.engine.kernels import launch


@triton.jit
def _expand_kernel(weight, scales, minima, output, K: tl.constexpr, BITS: tl.constexpr, G: tl.constexpr, TILE: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * TILE + tl.arange(0, TILE)
    real = at < K
    if BITS == 4:
        half: tl.constexpr = G // 2
        packed = tl.load(weight + row * (K // 2) + at // G * half + at % half, mask=real, other=0).to(tl.int32)
        value = tl.where(at % G < half, packed & 15, packed >> 4).to(tl.float32)
        block = row * (K // G) + at // G
        scale = tl.load(scales + block, mask=real, other=0.0).to(tl.float32)
        value = value * scale + tl.load(minima + block, mask=real, other=0.0).to(tl.float32)
    else:
        value = tl.load(weight + row * K + at, mask=real, other=0).to(tl.float32) * tl.load(scales + row).to(tl.float32)
    tl.store(output + row * K + at, value.to(output.dtype.element_ty), mask=real)


_scratch: dict[torch.device, Tensor] = {}


def _borrow(count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[count], overwritten by the next one who asks: the largest weight's room, taken once instead of in pieces."""
    if torch.cuda.is_current_stream_capturing():
        return torch.empty(count, dtype=dtype, device=device)  # of the graph, which keeps it
    kept = _scratch.get(device)
    if kept is None or kept.nbytes < count * dtype.itemsize:
        _scratch.pop(device, None)
        kept = _scratch[device] = torch.empty(count * dtype.itemsize, dtype=torch.uint8, device=device)
    return kept[: count * dtype.itemsize].view(dtype)


def expand(weight: Tensor, scales: Tensor, minima: Tensor, columns: int, bits: int, group: int, dtype: torch.dtype) -> Tensor:
    """The weight of 8 or 4 bits as [N, columns] of `dtype`; valid until the next call."""
    output = _borrow(weight.shape[0] * columns, dtype, weight.device).view(-1, columns)
    launch(
        _expand_kernel, (weight.shape[0], triton.cdiv(columns, 1024)), weight, scales, minima, output,
        K=columns, BITS=bits, G=group, TILE=1024, num_warps=4,
    )  # fmt: skip
    return output

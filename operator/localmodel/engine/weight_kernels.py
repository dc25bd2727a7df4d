"""Products of a few rows with weights of 16, 8 or 4 bits, in Triton-the-language, and weights of 8 or 4 bits made 16 again.

Why it exists: with few rows a product takes as long as reading the weights, so they are read once, in the form they are
stored in, and become numbers on the way. With many rows the arithmetic decides, and the dense product of the library is
faster on weights made bfloat16 before.

Forms of a weight [N, K]: 16 bits: as it is. 8 bits: int8 [N, K] and a scale for each row. 4 bits: uint8 [N, K / 2] and a
scale and a minimum for each group of G neighbours of a row; a group's first half lies in the low halves of its G / 2 bytes.
"""

import torch
import triton.language as tl
from torch import Tensor

import triton
from localmodel.engine.weight_bits import nibbles, signed_bytes


@triton.jit
def _row_kernel(
    x, weight, scales, minima, bias, output, N,
    K: tl.constexpr, BITS: tl.constexpr, G: tl.constexpr, ROWS: tl.constexpr, CHUNKS: tl.constexpr, BIASED: tl.constexpr,
    FAST: tl.constexpr,
):  # fmt: skip
    """A thread reads chunks of 16 bytes and adds each up by itself, with the same part of `x` for all ROWS."""
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    real = n < N
    row = n.to(tl.int64)
    c = tl.arange(0, CHUNKS)
    size: tl.constexpr = 8 if BITS == 16 else 16
    i = tl.arange(0, size)
    line: tl.constexpr = K // 2 if BITS == 4 else K
    lines = weight + row[:, None, None] * line + i[None, None, :]
    total = tl.zeros([ROWS, CHUNKS], tl.float32)
    for at in range(0, line, CHUNKS * size):
        chunk = at + c * size
        inside = chunk < line
        place = chunk[:, None] + i[None, :]
        loaded = real[:, None, None] & inside[None, :, None]
        # It is read once; kept in the cache it would drive `x` out, which costs 5 to 10 %.
        w = tl.load(lines + chunk[None, :, None], mask=loaded, other=0, eviction_policy="evict_first")
        if BITS == 4:
            half: tl.constexpr = G // 2
            group = chunk // half
            first = (group * half)[:, None] + place
            low_x = tl.load(x + first, mask=inside[:, None], other=0.0).to(tl.float32)
            high_x = tl.load(x + first + half, mask=inside[:, None], other=0.0).to(tl.float32)
            low, high = nibbles(w, tl.float32, FAST)
            part = tl.sum(low * low_x[None, :, :] + high * high_x[None, :, :], 2)
            block = row[:, None] * (K // G) + group[None, :]
            known = real[:, None] & inside[None, :]
            total += tl.load(scales + block, mask=known, other=0.0).to(tl.float32) * part
            total += tl.load(minima + block, mask=known, other=0.0).to(tl.float32) * tl.sum(low_x + high_x, 1)[None, :]
        else:
            part_x = tl.load(x + place, mask=inside[:, None], other=0.0).to(tl.float32)
            total += tl.sum(w.to(tl.float32) * part_x[None, :, :], 2)
    result = tl.sum(total, 1)
    if BITS == 8:
        result *= tl.load(scales + n, mask=real, other=0.0).to(tl.float32)
    if BIASED:
        result += tl.load(bias + n, mask=real, other=0.0).to(tl.float32)
    tl.store(output + n, result.to(output.dtype.element_ty), mask=real)


@triton.jit
def _rows_kernel(
    x, weight, scales, minima, bias, output, partials, M, N, splits,
    K: tl.constexpr, BITS: tl.constexpr, G: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, TILE: tl.constexpr,
    BIASED: tl.constexpr, SPLIT: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    m = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    split = tl.program_id(2)
    real = n < N
    row = n.to(tl.int64)
    tiles = tl.cdiv(K, TILE)
    each = tl.cdiv(tiles, splits)
    start = split * each
    end = tl.minimum(start + each, tiles)
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    if BITS == 4:
        half: tl.constexpr = G // 2
        j = tl.arange(0, half)
        for tile in range(start, end):
            packed = tl.load(weight + row[:, None] * (K // 2) + tile * half + j[None, :], mask=real[:, None], other=0)
            scale = tl.load(scales + row * (K // G) + tile, mask=real, other=0.0)[:, None]
            minimum = tl.load(minima + row * (K // G) + tile, mask=real, other=0.0)[:, None]
            low, high = nibbles(packed, x.dtype.element_ty, FAST)
            place = m[None, :] * K + (tile * G + j)[:, None]
            low_x = tl.load(x + place, mask=m[None, :] < M, other=0.0)
            high_x = tl.load(x + place + half, mask=m[None, :] < M, other=0.0)
            total = tl.dot(low * scale + minimum, low_x, total, input_precision="ieee")
            total = tl.dot(high * scale + minimum, high_x, total, input_precision="ieee")
    else:
        k = tl.arange(0, TILE)
        for tile in range(start, end):
            at = tile * TILE + k
            w = tl.load(weight + row[:, None] * K + at[None, :], mask=real[:, None] & (at < K)[None, :], other=0)
            part = tl.load(x + m[None, :] * K + at[:, None], mask=(m[None, :] < M) & (at < K)[:, None], other=0.0)
            total = tl.dot(signed_bytes(w, x.dtype.element_ty, FAST), part, total, input_precision="ieee")
    wanted = real[:, None] & (m[None, :] < M)
    if SPLIT:
        tl.store(partials + (split * M + m[None, :]).to(tl.int64) * N + n[:, None], total, mask=wanted)
    else:
        if BITS == 8:
            total *= tl.load(scales + n, mask=real, other=0.0).to(tl.float32)[:, None]
        if BIASED:
            total += tl.load(bias + n, mask=real, other=0.0).to(tl.float32)[:, None]
        tl.store(output + m[None, :] * N + n[:, None], total.to(output.dtype.element_ty), mask=wanted)


@triton.jit
def _sum_kernel(partials, scales, bias, output, M, N, splits, BITS: tl.constexpr, BIASED: tl.constexpr, TILE: tl.constexpr):
    m = tl.program_id(1)
    n = tl.program_id(0) * TILE + tl.arange(0, TILE)
    real = n < N
    total = tl.zeros([TILE], tl.float32)
    for split in range(splits):
        total += tl.load(partials + (split * M + m).to(tl.int64) * N + n, mask=real, other=0.0)
    if BITS == 8:
        total *= tl.load(scales + n, mask=real, other=0.0).to(tl.float32)
    if BIASED:
        total += tl.load(bias + n, mask=real, other=0.0).to(tl.float32)
    tl.store(output + m * N + n, total.to(output.dtype.element_ty), mask=real)


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


def multiply_row(
    x: Tensor, weight: Tensor, scales: Tensor, minima: Tensor, bias: Tensor | None, bits: int, group: int,
    rows: int = 8, chunks: int = 32, warps: int = 1,
) -> Tensor:  # fmt: skip
    """x [1, K] @ weight.T + bias -> [1, N]. K is a multiple of 8, of 16 for 8 bits; a group of 4 bits is at least 32."""
    count, size = weight.shape[0], x.shape[1]
    output = torch.empty((1, count), dtype=x.dtype, device=x.device)
    _row_kernel[(triton.cdiv(count, rows),)](
        x, weight, scales, minima, x if bias is None else bias, output, count,
        K=size, BITS=bits, G=group, ROWS=rows, CHUNKS=chunks, BIASED=bias is not None, FAST=x.is_cuda,
        num_warps=warps,
    )  # fmt: skip
    return output


def multiply_rows(
    x: Tensor, weight: Tensor, scales: Tensor, minima: Tensor, bias: Tensor | None, bits: int, group: int,
    rows: int = 64, columns: int = 16, tile: int = 128, splits: int = 1, warps: int = 4, stages: int = 4,
) -> Tensor:  # fmt: skip
    """x [M, K], contiguous, @ weight.T + bias -> [M, N]; `columns` rows of x at a time, K in `splits` parts."""
    height, size = x.shape
    count = weight.shape[0]
    tile = group if bits == 4 else tile
    splits = min(splits, triton.cdiv(size, tile))
    output = torch.empty((height, count), dtype=x.dtype, device=x.device)
    shape = (splits, height, count) if splits > 1 else (0,)
    partials = torch.empty(shape, dtype=torch.float32, device=x.device)
    places = (x if bias is None else bias, output)
    _rows_kernel[(triton.cdiv(count, rows), triton.cdiv(height, columns), splits)](
        x, weight, scales, minima, *places, partials, height, count, splits,
        K=size, BITS=bits, G=group, ROWS=rows, COLUMNS=columns, TILE=tile, BIASED=bias is not None, SPLIT=splits > 1,
        FAST=x.is_cuda,
        num_warps=warps, num_stages=stages,
    )  # fmt: skip
    if splits > 1:
        _sum_kernel[(triton.cdiv(count, 256), height)](
            partials, scales, *places, height, count, splits, BITS=bits, BIASED=bias is not None, TILE=256, num_warps=2
        )
    return output


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
    _expand_kernel[(weight.shape[0], triton.cdiv(columns, 1024))](
        weight, scales, minima, output, K=columns, BITS=bits, G=group, TILE=1024, num_warps=4
    )
    return output

"""The small steps between two matrix products, each one kernel on a card, in Triton-the-language.

Why it exists: when one token is decoded, a kernel costs microseconds whatever it computes, and a network of 28 layers has
hundreds. Each computes in float32 and rounds once. They depend on device tensors only, so CUDA graphs may hold them.
"""

import torch
import triton.language as tl
from torch import Tensor

import triton
from localmodel.engine.kernels import launch, overlap_of
from localmodel.engine.overlap_kernel import wait_for_inputs

SILU_TILE = 1024


@triton.jit
def _add_rms_norm_kernel(
    x, delta, weight, total, normed, epsilon, SIZE: tl.constexpr, PAD: tl.constexpr, OVERLAP: tl.constexpr = ""
):
    row = tl.program_id(0).to(tl.int64) * SIZE
    at = tl.arange(0, PAD)
    real = at < SIZE
    w = tl.load(weight + at, mask=real, other=0.0).to(tl.float32)
    wait_for_inputs(OVERLAP)
    a = tl.load(x + row + at, mask=real, other=0.0).to(tl.float32)
    b = tl.load(delta + row + at, mask=real, other=0.0).to(tl.float32)
    rounded = (a + b).to(total.dtype.element_ty)
    tl.store(total + row + at, rounded, mask=real)
    value = rounded.to(tl.float32)
    scale = tl.rsqrt(tl.sum(value * value, 0) / SIZE + epsilon)
    tl.store(normed + row + at, (value * scale * w).to(normed.dtype.element_ty), mask=real)


def add_rms_norm(x: Tensor, delta: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """x, delta [N, H], contiguous -> (x + delta, its RMS norm times weight), [N, H] each."""
    total, normed = torch.empty_like(x), torch.empty_like(x)
    size = x.shape[-1]
    pad = triton.next_power_of_2(size)
    warps = max(1, min(16, pad // 512))
    launch(
        _add_rms_norm_kernel, (x.shape[0],), x, delta, weight, total, normed, epsilon,
        SIZE=size, PAD=pad, overlap=overlap_of(x.shape[0]), num_warps=warps,
    )  # fmt: skip
    return total, normed


@triton.jit
def _turn_and_store_kernel(
    qkv, cos, sin, cache_rows, queries, keys, values,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, D: tl.constexpr, HALF_PAD: tl.constexpr, OVERLAP: tl.constexpr = "",
):  # fmt: skip
    row = tl.program_id(0)
    head = tl.program_id(1)
    half: tl.constexpr = D // 2
    d = tl.arange(0, HALF_PAD)
    real = d < half
    wait_for_inputs(OVERLAP)
    source = qkv + (row.to(tl.int64) * (HEADS + 2 * KV_HEADS) + head) * D + d
    low = tl.load(source, mask=real, other=0.0)
    high = tl.load(source + half, mask=real, other=0.0)
    cosine = tl.load(cos + row * D + d, mask=real, other=0.0).to(tl.float32)
    sine = tl.load(sin + row * D + half + d, mask=real, other=0.0).to(tl.float32)
    cache_row = tl.load(cache_rows + row)
    if head < HEADS + KV_HEADS:
        turned_low = (low.to(tl.float32) * cosine - high.to(tl.float32) * sine).to(low.dtype)
        turned_high = (high.to(tl.float32) * cosine + low.to(tl.float32) * sine).to(low.dtype)
        low = turned_low
        high = turned_high
    if head < HEADS:
        place = queries + (row.to(tl.int64) * HEADS + head) * D + d
        tl.store(place, low, mask=real)
        tl.store(place + half, high, mask=real)
    else:
        kv_head = (head - HEADS) % KV_HEADS
        offset = (cache_row * KV_HEADS + kv_head) * D + d
        if cache_row >= 0:
            if head < HEADS + KV_HEADS:
                tl.store(keys + offset, low, mask=real)
                tl.store(keys + offset + half, high, mask=real)
            else:
                tl.store(values + offset, low, mask=real)
                tl.store(values + offset + half, high, mask=real)


def turn_and_store(
    qkv: Tensor, rotation: tuple[Tensor, Tensor], cache_rows: Tensor, keys: Tensor, values: Tensor, heads: int
) -> Tensor:
    """qkv [N, A + 2 K, D], rotation [N, 1, D] each, all contiguous -> turned queries [N, A, D].

    Turned keys, and values, go to `cache_rows` [N] int64 of keys, values [tokens, K, D]; those of row -1 nowhere.
    """
    rows, _, size = qkv.shape
    kv_heads = keys.shape[1]
    queries = torch.empty((rows, heads, size), dtype=qkv.dtype, device=qkv.device)
    cos, sin = rotation
    launch(
        _turn_and_store_kernel, (rows, heads + 2 * kv_heads),
        qkv, cos, sin, cache_rows, queries, keys, values,
        HEADS=heads, KV_HEADS=kv_heads, D=size, HALF_PAD=triton.next_power_of_2(size // 2),
        overlap=overlap_of(rows), num_warps=1,
    )  # fmt: skip
    return queries


@triton.jit
def _gated_silu_kernel(gate_up, output, SIZE: tl.constexpr, TILE: tl.constexpr, OVERLAP: tl.constexpr = ""):
    row = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * TILE + tl.arange(0, TILE)
    real = at < SIZE
    wait_for_inputs(OVERLAP)
    gate = tl.load(gate_up + row * 2 * SIZE + at, mask=real, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * SIZE + SIZE + at, mask=real, other=0.0).to(tl.float32)
    tl.store(output + row * SIZE + at, (gate * tl.sigmoid(gate) * up).to(output.dtype.element_ty), mask=real)


def gated_silu(gate_up: Tensor) -> Tensor:
    """[N, 2 I], contiguous -> silu(first half) * second half, [N, I]."""
    rows, width = gate_up.shape
    size = width // 2
    output = torch.empty((rows, size), dtype=gate_up.dtype, device=gate_up.device)
    launch(
        _gated_silu_kernel, (triton.cdiv(size, SILU_TILE), rows), gate_up, output,
        SIZE=size, TILE=SILU_TILE, overlap=overlap_of(rows), num_warps=4,
    )  # fmt: skip
    return output

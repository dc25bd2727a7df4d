"""The layers that the decoder families share: norm, rotary embedding, attention over the cache, gated MLP.

Why it exists: a family's file then shows only what is special to it. Layers hold plain tensors; each yields the
checkpoint names of its parts and the places to load them into (`tensors`). They know nothing of sampling or scheduling.

Shapes: N tokens of one step, flat over all sequences; H hidden; A heads, K kv_heads, D head_dim.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right

from localmodel.engine.network_config import NetworkConfig, Rope

Places = Iterator[tuple[str, Tensor]]


@dataclass(frozen=True)
class Segment:
    """`count` neighbouring rows from `row` belong to one sequence whose cache begins at `base`, at positions from `start`."""

    row: int
    count: int
    base: int
    start: int


@dataclass(frozen=True)
class Batch:
    """What one step computes. Rows after the last segment are padding."""

    tokens: Tensor
    """[N] int64"""
    positions: Tensor
    """[N] int64, each within its sequence."""
    cache_rows: Tensor
    """[M] int64, M <= N: where in the cache's token axis row i goes."""
    segments: list[Segment]


class RMSNorm:
    def __init__(self, size: int, epsilon: float, dtype: torch.dtype, device: torch.device) -> None:
        self.weight = torch.empty(size, dtype=dtype, device=device)
        self.epsilon = epsilon

    def __call__(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.epsilon)


class RotaryTable:
    """Cosines and signed sines of every position, [context, D] each, so that a rotation is x * cos + swap(x) * sin."""

    def __init__(self, rope: Rope, head_dim: int, context: int, dtype: torch.dtype, device: torch.device) -> None:
        angles = torch.outer(torch.arange(context, dtype=torch.float32), inverse_frequencies(rope, head_dim))
        self.cos = torch.cat([angles.cos(), angles.cos()], dim=-1).to(dtype).to(device)
        self.sin = torch.cat([-angles.sin(), angles.sin()], dim=-1).to(dtype).to(device)

    def at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """(cos, sin), [N, 1, D] each."""
        return self.cos[positions].unsqueeze(1), self.sin[positions].unsqueeze(1)


def inverse_frequencies(rope: Rope, head_dim: int) -> Tensor:
    """[D / 2], radians per position."""
    frequencies = 1.0 / (rope.theta ** (torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim))
    if rope.llama3 is None:
        return frequencies / rope.linear_factor
    scaling = rope.llama3
    wavelengths = 2 * math.pi / frequencies
    turns = scaling.original_context / wavelengths
    blend = (turns - scaling.low_frequency_factor) / (scaling.high_frequency_factor - scaling.low_frequency_factor)
    blend = blend.clamp(0, 1)
    return (1 - blend) * frequencies / scaling.factor + blend * frequencies


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """[N, heads, D] -> the same."""
    cos, sin = rotation
    return x * cos + x.roll(x.shape[-1] // 2, dims=-1) * sin


class Attention:
    """Grouped-query attention. Query, key and value weights are one matrix, so that a step makes one product of them."""

    def __init__(
        self, config: NetworkConfig, *, qkv_bias: bool, output_bias: bool, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        rows = (self.heads + 2 * self.kv_heads) * self.head_dim
        make = {"dtype": dtype, "device": device}
        self.qkv = torch.empty(rows, config.hidden, **make)
        self.qkv_bias = torch.empty(rows, **make) if qkv_bias else None
        self.output = torch.empty(config.hidden, self.heads * self.head_dim, **make)
        self.output_bias = torch.empty(config.hidden, **make) if output_bias else None

    def tensors(self, prefix: str) -> Places:
        sizes = [heads * self.head_dim for heads in (self.heads, self.kv_heads, self.kv_heads)]
        for name, part in zip("qkv", self.qkv.split(sizes), strict=True):
            yield f"{prefix}.{name}_proj.weight", part
        if self.qkv_bias is not None:
            for name, part in zip("qkv", self.qkv_bias.split(sizes), strict=True):
                yield f"{prefix}.{name}_proj.bias", part
        yield f"{prefix}.o_proj.weight", self.output
        if self.output_bias is not None:
            yield f"{prefix}.o_proj.bias", self.output_bias

    def __call__(self, x: Tensor, rotation: tuple[Tensor, Tensor], batch: Batch, keys: Tensor, values: Tensor) -> Tensor:
        """x [N, H] -> [N, H]; writes this step's keys and values into `keys` and `values` [cache tokens, K, D]."""
        rows = x.shape[0]
        qkv = F.linear(x, self.qkv, self.qkv_bias).view(rows, -1, self.head_dim)
        turned = rotate(qkv[:, : self.heads + self.kv_heads], rotation)
        queries, new_keys = turned.split([self.heads, self.kv_heads], dim=1)
        used = batch.cache_rows.shape[0]
        keys.index_copy_(0, batch.cache_rows, new_keys[:used])
        values.index_copy_(0, batch.cache_rows, qkv[:used, self.heads + self.kv_heads :])
        mixed = x.new_zeros(rows, self.heads, self.head_dim)
        for segment in batch.segments:
            here = slice(segment.row, segment.row + segment.count)
            past = slice(segment.base, segment.base + segment.start + segment.count)
            mixed[here] = self._attend(queries[here], keys[past], values[past], segment.start)
        return F.linear(mixed.view(rows, -1), self.output, self.output_bias)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, start: int) -> Tensor:
        """queries [T, A, D] at positions from `start`; keys, values [start + T, K, D] -> [T, A, D].

        The query heads of one key head are its rows (one token) or a batch dimension over which it is expanded (many):
        no kernel needs to know of groups, and nothing is copied.
        """
        count, group = queries.shape[0], self.heads // self.kv_heads
        keys, values = keys.transpose(0, 1), values.transpose(0, 1)
        if count == 1:
            grouped = queries.view(1, self.kv_heads, group, self.head_dim)
            mixed = F.scaled_dot_product_attention(grouped, keys.unsqueeze(0), values.unsqueeze(0))
            return mixed.reshape(1, self.heads, self.head_dim)
        grouped = queries.view(count, self.kv_heads, group, self.head_dim).permute(1, 2, 0, 3)
        keys, values = (x.unsqueeze(1).expand(-1, group, -1, -1) for x in (keys, values))
        if start == 0:
            mixed = F.scaled_dot_product_attention(grouped, keys, values, is_causal=True)
        else:
            mask = _mask_future(count, start + count, queries.device)
            mixed = F.scaled_dot_product_attention(grouped, keys, values, attn_mask=mask)
        return mixed.permute(2, 0, 1, 3).reshape(count, self.heads, self.head_dim)


def _mask_future(count: int, length: int, device: torch.device) -> Tensor:
    """For the last `count` of `length` positions. On a card it is only a mark that the kernels there understand: with a
    real mask they hold all scores at once: 2.3 GiB and 7.0 ms instead of 7 MiB and 0.4 ms for 1,024 of 8,192 positions
    (28 heads over 4, bfloat16, H100, torch 2.11)."""
    if device.type == "cuda":
        return causal_lower_right(count, length)
    return torch.ones(count, length, dtype=torch.bool, device=device).tril(length - count)


class GatedMLP:
    """silu(gate(x)) * up(x), then down. Gate and up are one matrix."""

    def __init__(self, config: NetworkConfig, dtype: torch.dtype, device: torch.device) -> None:
        make = {"dtype": dtype, "device": device}
        self.gate_up = torch.empty(2 * config.intermediate, config.hidden, **make)
        self.gate_up_bias = torch.empty(2 * config.intermediate, **make) if config.mlp_bias else None
        self.down = torch.empty(config.hidden, config.intermediate, **make)
        self.down_bias = torch.empty(config.hidden, **make) if config.mlp_bias else None

    def tensors(self, prefix: str) -> Places:
        for name, part in zip(("gate", "up"), self.gate_up.chunk(2), strict=True):
            yield f"{prefix}.{name}_proj.weight", part
        yield f"{prefix}.down_proj.weight", self.down
        if self.gate_up_bias is not None and self.down_bias is not None:
            for name, part in zip(("gate", "up"), self.gate_up_bias.chunk(2), strict=True):
                yield f"{prefix}.{name}_proj.bias", part
            yield f"{prefix}.down_proj.bias", self.down_bias

    def __call__(self, x: Tensor) -> Tensor:
        gate, up = F.linear(x, self.gate_up, self.gate_up_bias).chunk(2, dim=-1)
        return F.linear(F.silu(gate) * up, self.down, self.down_bias)

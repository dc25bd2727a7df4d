"""The layers that the decoder families share: norm, rotary embedding, attention over the cache, gated MLP.

Why it exists: a family's file then shows only what is special to it. Layers hold plain tensors; each yields the
checkpoint names of its parts and the places to load them into (`tensors`). They know nothing of sampling or scheduling.
The small steps between two matrix products are one kernel each, on a card (`fused_kernels`) and on a processor (`cpu_kernels`).

Shapes: N tokens of one step, flat over all sequences; H hidden; A heads, K kv_heads, D head_dim. Heads and inner sizes are
those of this rank.
"""

import math
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from localmodel.engine import cpu_kernels
from localmodel.engine.attention import Batch
from localmodel.engine.kernels import uses_kernels
from localmodel.engine.linear import Places, column_parallel, row_parallel
from localmodel.engine.network_config import NetworkConfig
from localmodel.engine.rope import Rope, YarnScaling

Residual = tuple[Tensor, Tensor | None]
"""The stream of a network [N, H], and what the last layer adds to it, not added yet: the next norm does that on its way."""


def kernels_for(x: Tensor) -> ModuleType | None:
    """What makes one step of several operators of torch; None: nothing does."""
    if uses_kernels(x):
        from localmodel.engine import fused_kernels

        return fused_kernels
    return cpu_kernels if cpu_kernels.serves(x) else None


class RMSNorm:
    def __init__(self, size: int, epsilon: float, dtype: torch.dtype, device: torch.device) -> None:
        self.weight = torch.empty(size, dtype=dtype, device=device)
        self.epsilon = epsilon

    def __call__(self, x: Tensor) -> Tensor:
        if cpu_kernels.serves(x):
            return cpu_kernels.rms_norm(x, self.weight, self.epsilon)
        return F.rms_norm(x, self.weight.shape, self.weight, self.epsilon)

    def add(self, residual: Residual) -> tuple[Tensor, Tensor]:
        """(the sum [N, H], its norm [N, H])."""
        x, delta = residual
        if delta is None:
            return x, self(x)
        if kernels := kernels_for(x):
            return kernels.add_rms_norm(x, delta, self.weight, self.epsilon)
        x = x + delta
        return x, self(x)


class RotaryTable:
    """Cosines and signed sines of every position, [context, D] each, so that a rotation is x * cos + swap(x) * sin."""

    def __init__(self, rope: Rope, head_dim: int, context: int, dtype: torch.dtype, device: torch.device) -> None:
        angles = torch.outer(torch.arange(context, dtype=torch.float32), inverse_frequencies(rope, head_dim))
        cos, sin = angles.cos() * rope.amplitude, angles.sin() * rope.amplitude
        self.cos = torch.cat([cos, cos], dim=-1).to(dtype).to(device)
        self.sin = torch.cat([-sin, sin], dim=-1).to(dtype).to(device)

    def at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """(cos, sin), [N, 1, D] each."""
        return self.cos[positions].unsqueeze(1), self.sin[positions].unsqueeze(1)


def inverse_frequencies(rope: Rope, head_dim: int) -> Tensor:
    """[D / 2], radians per position."""
    frequencies = 1.0 / (rope.theta ** (torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim))
    if rope.yarn:
        return _yarn_frequencies(rope.yarn, rope.theta, frequencies)
    if rope.llama3 is None:
        return frequencies / rope.linear_factor
    scaling = rope.llama3
    wavelengths = 2 * math.pi / frequencies
    turns = scaling.original_context / wavelengths
    blend = (turns - scaling.low_frequency_factor) / (scaling.high_frequency_factor - scaling.low_frequency_factor)
    blend = blend.clamp(0, 1)
    return (1 - blend) * frequencies / scaling.factor + blend * frequencies


def _yarn_frequencies(scaling: YarnScaling, theta: float, frequencies: Tensor) -> Tensor:
    """High frequencies stay, low ones are divided by the factor, and between them lies a ramp over the dimensions."""
    size = 2 * frequencies.shape[0]

    def dimension(turns: float) -> float:
        return size * math.log(scaling.original_context / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = dimension(scaling.fast), dimension(scaling.slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, size - 1)
    if low == high:
        high += 0.001
    ramp = ((torch.arange(size // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    return frequencies / scaling.factor * ramp + frequencies * (1 - ramp)


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """[N, heads, D] -> the same."""
    cos, sin = rotation
    return x * cos + x.roll(x.shape[-1] // 2, dims=-1) * sin


class Attention:
    """Grouped-query attention. Query, key and value weights are one matrix."""

    def __init__(
        self, config: NetworkConfig, *, qkv_bias: bool, output_bias: bool, dtype: torch.dtype, device: torch.device,
        scale: float | None = None, window: int | None = None,
    ) -> None:  # fmt: skip
        """`scale` of the scores, default D ** -0.5; `window`: positions that a token sees, default all before it."""
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        self.scale = scale or self.head_dim**-0.5
        self.window = window
        rows = (self.heads + 2 * self.kv_heads) * self.head_dim
        self.qkv = column_parallel(config, rows, config.hidden, bias=qkv_bias, dtype=dtype, device=device)
        columns = self.heads * self.head_dim
        self.output = row_parallel(config, config.hidden, columns, bias=output_bias, dtype=dtype, device=device)

    def tensors(self, prefix: str) -> Places:
        sizes = {"q": self.heads, "k": self.kv_heads, "v": self.kv_heads}
        yield from self.qkv.tensors({f"{prefix}.{name}_proj": heads * self.head_dim for name, heads in sizes.items()})
        yield from self.output.tensors({f"{prefix}.o_proj": self.output.weight.shape[0]})

    def __call__(self, x: Tensor, rotation: tuple[Tensor, Tensor], batch: Batch, keys: Tensor, values: Tensor) -> Tensor:
        """x [N, H] -> [N, H]; writes this step's keys and values into `keys` and `values` [cache tokens, K, D]."""
        rows = x.shape[0]
        qkv = self.qkv(x).view(rows, -1, self.head_dim)
        queries = self.turn_and_store(qkv, rotation, batch, keys, values)
        mixed = batch.attend(queries, keys, values, self.scale, self.window)
        return self.output(mixed.view(rows, -1))

    def turn_and_store(self, qkv: Tensor, rotation: tuple[Tensor, Tensor], batch: Batch, keys: Tensor, values: Tensor) -> Tensor:
        """qkv [N, A + 2 K, D] -> turned queries [N, A, D]; turned keys, and values, go into the cache."""
        if kernels := kernels_for(qkv):
            return kernels.turn_and_store(qkv, rotation, batch.cache_rows, keys, values, self.heads)
        turned = rotate(qkv[:, : self.heads + self.kv_heads], rotation)
        queries, new_keys = turned.split([self.heads, self.kv_heads], dim=1)
        used = batch.cache_rows.shape[0]
        keys.index_copy_(0, batch.cache_rows, new_keys[:used])
        values.index_copy_(0, batch.cache_rows, qkv[:used, self.heads + self.kv_heads :])
        return queries


class GatedMLP:
    """silu(gate(x)) * up(x), then down. Gate and up are one matrix."""

    def __init__(self, config: NetworkConfig, dtype: torch.dtype, device: torch.device) -> None:
        rows, bias = 2 * config.intermediate, config.mlp_bias
        self.gate_up = column_parallel(config, rows, config.hidden, bias=bias, dtype=dtype, device=device)
        self.down = row_parallel(config, config.hidden, config.intermediate, bias=bias, dtype=dtype, device=device)

    def tensors(self, prefix: str) -> Places:
        rows = self.gate_up.weight.shape[0] // 2
        yield from self.gate_up.tensors({f"{prefix}.gate_proj": rows, f"{prefix}.up_proj": rows})
        yield from self.down.tensors({f"{prefix}.down_proj": self.down.weight.shape[0]})

    def __call__(self, x: Tensor) -> Tensor:
        gate_up = self.gate_up(x)
        if kernels := kernels_for(gate_up):
            return self.down(kernels.gated_silu(gate_up))
        gate, up = gate_up.chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)

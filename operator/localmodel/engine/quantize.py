"""Weights of 8 or 4 bits, made from those of a checkpoint while they are loaded, a matrix at a time.

Why it exists: a card reads half or a quarter for each token, and holds a larger model. Only weights are rounded; what is
multiplied with them stays as it was. INT8: a scale for each output. INT4: a scale and a minimum for each group of 128
inputs (fewer where a row's length asks for it), chosen for the least squared error. What no group divides stays INT8, and
so do the embedding and the head of INT4, which decide words and are a small part of a network.

It must not know families or files: it looks to the loader like the tensor that it stands for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

GROUPS = (128, 64, 32)
"""Sizes of a group of INT4, the largest that divides a row first."""
SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)
"""Parts of a group's range that are tried: values outside are cut off, those inside get finer steps."""
ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class QuantizedWeight:
    """Stands for a matrix [N, K] of `dtype`."""

    bits: int
    group: int
    data: Tensor
    """[N, K] int8, or what `pack` makes of four bits, [N, K / 2] uint8."""
    scales: Tensor
    """[N], or [N, K / group]"""
    minima: Tensor
    """[N, K / group] for 4 bits, else empty."""

    @classmethod
    def empty(cls, rows: int, columns: int, bits: int, dtype: torch.dtype, device: torch.device) -> "QuantizedWeight":
        group = next((size for size in GROUPS if columns % size == 0), 0) if bits == 4 else 0
        if not group:
            data = torch.empty(rows, columns, dtype=torch.int8, device=device)
            scales = torch.empty(rows, dtype=dtype, device=device)
            return cls(8, 0, data, scales, torch.empty(0, dtype=dtype, device=device))
        data = torch.empty(rows, columns // 2, dtype=torch.uint8, device=device)
        scales, minima = (torch.empty(rows, columns // group, dtype=dtype, device=device) for _ in range(2))
        return cls(4, group, data, scales, minima)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((self.data.shape[0], self.data.shape[1] * (2 if self.bits == 4 else 1)))

    @property
    def nbytes(self) -> int:
        return self.data.nbytes + self.scales.nbytes + self.minima.nbytes

    def numel(self) -> int:
        return self.shape.numel()

    def split(self, sizes: Sequence[int]) -> list["QuantizedWeight"]:
        """Parts of `sizes` rows each, as views."""
        parts = list(zip(self.data.split(list(sizes)), self.scales.split(list(sizes)), strict=True))
        minima = self.minima.split(list(sizes)) if self.bits == 4 else [self.minima] * len(parts)
        return [QuantizedWeight(self.bits, self.group, *part, low) for part, low in zip(parts, minima, strict=True)]

    def copy_(self, source: Tensor) -> None:
        """Rounds `source` [N, K] into this weight."""
        for at in range(0, source.shape[0], ROWS_AT_ONCE):
            here = slice(at, at + ROWS_AT_ONCE)
            part = source[here].to(self.data.device).float()
            if self.bits == 8:
                scales = (part.abs().amax(dim=1) / 127).clamp(min=1e-12).to(self.scales.dtype)
                self.scales[here] = scales
                self.data[here] = (part / scales.float().unsqueeze(1)).round_().clamp_(-127, 127).to(torch.int8)
            else:
                numbers, scales, minima = round_groups(part.unflatten(1, (-1, self.group)), self.scales.dtype)
                self.scales[here], self.minima[here] = scales, minima
                self.data[here] = pack(numbers)

    def dense(self) -> Tensor:
        """[N, K] in the dtype it stands for; on a card valid until the next call."""
        if self.data.is_cuda:
            from localmodel.engine.weight_expand import expand

            return expand(self.data, self.scales, self.minima, self.shape[1], self.bits, self.group, self.scales.dtype)
        if self.bits == 8:
            return self.data.to(self.scales.dtype) * self.scales.unsqueeze(1)
        numbers = unpack(self.data, self.group).float()
        return (numbers * self.scales.unsqueeze(-1).float() + self.minima.unsqueeze(-1).float()).flatten(1).to(self.scales.dtype)

    def rows(self, ids: Tensor) -> Tensor:
        """Rows `ids` [R] of an 8-bit weight -> [R, K]."""
        return self.data[ids].to(self.scales.dtype) * self.scales[ids].unsqueeze(1)

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x [M, K] @ weight.T + bias -> [M, N]."""
        if x.is_cuda:
            from localmodel.engine.weight_products import multiply_few, too_many

            if not too_many(x.shape[0]):
                return multiply_few(x, self, bias)
        return F.linear(x, self.dense(), bias)


def pack(numbers: Tensor) -> Tensor:
    """uint8 0 ... 15 [N, C, G] -> uint8 [N, C * G / 2]. A group lies in G / 4 words of 16 bits, little endian, and bits
    4 j ... 4 j + 3 of word c are number j * G / 4 + c: what a kernel takes apart with the same masks is a run of neighbours."""
    a, b, c, d = numbers.chunk(4, dim=-1)
    return torch.stack([a | b << 4, c | d << 4], dim=-1).flatten(1)


def unpack(data: Tensor, group: int) -> Tensor:
    """uint8 [N, K / 2] -> uint8 [N, K / group, group]"""
    low, high = data.unflatten(-1, (-1, group // 4, 2)).unbind(-1)
    return torch.cat([low & 15, low >> 4, high & 15, high >> 4], dim=-1)


@dataclass(frozen=True)
class RoundedRows:
    """Stands for rows of a tensor that get the values which a quantized weight would have."""

    target: Tensor
    bits: int

    @property
    def shape(self) -> torch.Size:
        return self.target.shape

    @property
    def nbytes(self) -> int:
        return self.target.nbytes

    def numel(self) -> int:
        return self.target.numel()

    def copy_(self, source: Tensor) -> None:
        for at in range(0, source.shape[0], ROWS_AT_ONCE):
            part = source[at : at + ROWS_AT_ONCE]
            rounded = QuantizedWeight.empty(*part.shape, self.bits, self.target.dtype, self.target.device)
            rounded.copy_(part)
            self.target[at : at + ROWS_AT_ONCE] = rounded.dense()


Weight = Tensor | QuantizedWeight
Place = Tensor | QuantizedWeight | RoundedRows
"""Where a checkpoint's tensor goes: it has a shape, nbytes, numel() and copy_(source)."""


def make_weight(rows: int, columns: int, bits: int, dtype: torch.dtype, device: torch.device) -> Weight:
    """Uninitialized. On a CPU it is dense whatever `bits` says, with values that were rounded when they were loaded:
    torch's own products with 8 bits took 1.5 to 30 times as long there as float32 (torch 2.15, an EPYC without AVX-512)."""
    if bits == 16 or device.type == "cpu":
        return torch.empty(rows, columns, dtype=dtype, device=device)
    return QuantizedWeight.empty(rows, columns, bits, dtype, device)


def places_of(weight: Weight, bits: int, sizes: Sequence[int]) -> Sequence[Place]:
    """What to load into the parts of `sizes` rows that `weight` is made of."""
    parts = weight.split(list(sizes))
    return [RoundedRows(part, bits) if bits < 16 and isinstance(part, Tensor) else part for part in parts]


def rows_of(weight: Weight, ids: Tensor) -> Tensor:
    """Rows `ids` [R] -> [R, K]."""
    return F.embedding(ids, weight) if isinstance(weight, Tensor) else weight.rows(ids)


def multiply(x: Tensor, weight: Weight, bias: Tensor | None) -> Tensor:
    """x [M, K] @ weight.T + bias -> [M, N]."""
    if not isinstance(weight, Tensor):
        return weight.multiply(x, bias)
    if x.is_cuda and x.shape[0] == 1 and x.dtype == torch.bfloat16 and x.shape[1] % 8 == 0:
        from localmodel.engine.weight_products import multiply_one

        return multiply_one(x, weight, bias)
    return F.linear(x, weight, bias)


def round_groups(groups: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """groups [N, C, G] float32 -> (uint8 0 ... 15 [N, C, G], scales [N, C], minima [N, C] in `dtype`), so that
    number * scale + minimum is nearest."""
    low, high = groups.amin(dim=-1, keepdim=True), groups.amax(dim=-1, keepdim=True)
    best_error = torch.full_like(low, torch.inf)
    best_scale, best_minimum = torch.ones_like(low), torch.zeros_like(low)
    for shrink in SHRINKS:
        scale = ((high - low) * (shrink / 15)).clamp(min=1e-12).to(dtype).float()
        minimum = (low + (high - low) * ((1 - shrink) / 2)).to(dtype).float()
        numbers = ((groups - minimum) / scale).round_().clamp_(0, 15)
        error = (numbers * scale + minimum - groups).square_().sum(dim=-1, keepdim=True)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best_scale = torch.where(better, scale, best_scale)
        best_minimum = torch.where(better, minimum, best_minimum)
    numbers = ((groups - best_minimum) / best_scale).round_().clamp_(0, 15).to(torch.uint8)
    return numbers, best_scale.squeeze(-1).to(dtype), best_minimum.squeeze(-1).to(dtype)

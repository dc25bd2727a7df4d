"""Weights of 8 or 4 bits, made from those of a checkpoint while they are loaded, a matrix at a time.

Why it exists: a card reads half or a quarter for each token, and holds a larger model. Only weights are rounded; what is
multiplied with them stays as it was. INT8: a scale for each output. INT4: a scale and a minimum for each group of inputs;
what no group divides stays INT8.

It must not know families or files, which values are chosen (`rounding`) or how their bits lie (`packing`): it looks to the
loader like the tensor that it stands for.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from localmodel.engine.kernels import uses_kernels
from localmodel.engine.packed_weight import PackedWeight
from localmodel.engine.packing import SHORT_ROW_GROUP, group_of, pack, unpack
from localmodel.engine.rounded_rows import ROWS_AT_ONCE, RoundedRows
from localmodel.engine.rounding import Groups, dense_rows, round_nearest, round_rows


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
    def empty(
        cls, rows: int, columns: int, bits: int, dtype: torch.dtype, device: torch.device, short: int = SHORT_ROW_GROUP,
        whole: int = 0,
    ) -> "QuantizedWeight":  # fmt: skip
        """`short`: the largest group where rows are short. `whole`: columns of the matrix whose groups these are, if not all."""
        group = group_of(whole or columns, short) if bits == 4 else 0
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
    def dtype(self) -> torch.dtype:
        """Of what it stands for."""
        return self.scales.dtype

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

    def copy_(self, source: Tensor, columns: slice = slice(None)) -> None:
        """Rounds `source` [N, ...] and takes `columns` of it, which are K."""
        for at in range(0, source.shape[0], ROWS_AT_ONCE):
            here = slice(at, at + ROWS_AT_ONCE)
            if self.bits == 8:
                numbers, self.scales[here] = round_rows(source[here].to(self.data.device).float(), self.scales.dtype)
                self.data[here] = numbers[:, columns]
            else:
                part = source[here, columns].to(self.data.device).float()
                self.store(round_nearest(part, self.group, self.scales.dtype), here)

    def store(self, groups: Groups, rows: slice = slice(None)) -> None:
        """Takes chosen values as its `rows`."""
        self.data[rows] = pack(groups.numbers)
        self.scales[rows], self.minima[rows] = groups.scales, groups.minima

    def dense(self) -> Tensor:
        """[N, K] in the dtype it stands for; on a card valid until the next call."""
        if uses_kernels(self.data):
            from localmodel.engine.weight_expand import expand

            return expand(self.data, self.scales, self.minima, self.shape[1], self.bits, self.group, self.scales.dtype)
        if self.bits == 8:
            return dense_rows(self.data, self.scales)
        return Groups(unpack(self.data, self.group), self.scales, self.minima).dense().to(self.scales.dtype)

    def rows(self, ids: Tensor) -> Tensor:
        """Rows `ids` [R] -> [R, K]."""
        if self.bits == 8:
            return dense_rows(self.data[ids], self.scales[ids])
        return Groups(unpack(self.data[ids], self.group), self.scales[ids], self.minima[ids]).dense().to(self.scales.dtype)

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x [M, K] @ weight.T + bias -> [M, N]."""
        if uses_kernels(x):
            from localmodel.engine.weight_products import multiply_rounded

            return multiply_rounded(x, self, bias)
        return F.linear(x, self.dense(), bias)


Weight = Tensor | QuantizedWeight


class Place(Protocol):
    """Where a checkpoint's tensor goes."""

    @property
    def shape(self) -> torch.Size: ...

    @property
    def nbytes(self) -> int: ...

    def numel(self) -> int: ...

    def copy_(self, source: Tensor) -> object: ...


def make_weight(
    rows: int, columns: int, bits: int, dtype: torch.dtype, device: torch.device, short: int = SHORT_ROW_GROUP, whole: int = 0
) -> Weight:
    """Uninitialized; `short` and `whole`: as of `QuantizedWeight.empty`. On a CPU it is dense whatever `bits` says, with values
    that were rounded when they were loaded: torch's own products with 8 bits took 1.5 to 30 times as long there as float32
    (torch 2.15, an EPYC without AVX-512)."""
    if bits == 16 or device.type == "cpu":
        return torch.empty(rows, columns, dtype=dtype, device=device)
    return QuantizedWeight.empty(rows, columns, bits, dtype, device, short, whole)


def places_of(
    weight: Weight, bits: int, sizes: Sequence[int], short: int = SHORT_ROW_GROUP, whole: int = 0
) -> Sequence[Tensor | QuantizedWeight | RoundedRows]:
    """What to load into the parts of `sizes` rows that `weight` is made of."""
    if bits == 16 or not isinstance(weight, Tensor):
        return weight.split(list(sizes))
    group = group_of(whole or weight.shape[1], short) if bits == 4 else 0
    return [RoundedRows(part, 4 if group else 8, group) for part in weight.split(list(sizes))]


def storage_of(weight: Weight | RoundedRows) -> int:
    """Names the memory that a weight or a part of it lies in."""
    data = weight.data if isinstance(weight, QuantizedWeight) else weight.target if isinstance(weight, RoundedRows) else weight
    return data.untyped_storage().data_ptr()


def rows_of(weight: Weight | PackedWeight, ids: Tensor) -> Tensor:
    """Rows `ids` [R] -> [R, K]."""
    return F.embedding(ids, weight) if isinstance(weight, Tensor) else weight.rows(ids)


Observer = Callable[[Tensor, Weight], None]
_observer: Observer | None = None


@contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """Calls `observer` with x and the weight before each product, of whatever thread."""
    global _observer
    _observer = observer
    try:
        yield
    finally:
        _observer = None


def multiply(x: Tensor, weight: Weight | PackedWeight, bias: Tensor | None) -> Tensor:
    """x [M, K] @ weight.T + bias -> [M, N]."""
    if isinstance(weight, PackedWeight):
        return weight.multiply(x, bias)
    if _observer is not None:
        _observer(x, weight)
    if not isinstance(weight, Tensor):
        return weight.multiply(x, bias)
    if uses_kernels(x) and x.shape[0] == 1 and x.dtype == torch.bfloat16 and x.shape[1] % 8 == 0:
        from localmodel.engine.weight_products import multiply_one

        return multiply_one(x, weight, bias)
    return F.linear(x, weight, bias)

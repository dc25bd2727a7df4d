"""A matrix that is multiplied with: whole, or the share of it that one rank of several holds.

Why it exists: the layers say what is multiplied, and choose once, when they are made, whether ranks share it. A share looks to
the loader like the checkpoint's whole tensor. It knows nothing of families.

Column parallel: each rank has some of the outputs. Row parallel: each has some of the inputs, and the sum of what all make is
the product. In a pair of them, one sum is all that ranks say to each other. Both round their weights as if they were whole.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from localmodel.engine.collectives import sum_over_ranks
from localmodel.engine.network_config import NetworkConfig
from localmodel.engine.packed_weight import PackedWeight
from localmodel.engine.quantize import Place, Weight, make_weight, multiply, places_of
from localmodel.engine.shards import ColumnShare, RowShare

Places = Iterator[tuple[str, Place]]


class Linear:
    """x @ weight.T + bias. Several matrices of a checkpoint may lie in one, so that a step makes one product of them."""

    def __init__(
        self, rows: int, columns: int, *, bias: bool, dtype: torch.dtype, device: torch.device, bits: int = 16, whole: int = 0
    ) -> None:
        """`bits` of a number of the weight; 16: it is of `dtype`. `whole`: columns of the checkpoint's matrix, if not all."""
        self._bits = bits
        self._whole = whole or columns
        self.weight: Weight | PackedWeight = make_weight(rows, columns, bits, dtype, device, whole=self._whole)
        self.bias = torch.empty(rows, dtype=dtype, device=device) if bias else None

    def tensors(self, parts: dict[str, int]) -> Places:
        """`parts`: checkpoint names without their last word, and rows of each, from the first row on."""
        weight = self.weight.dense() if isinstance(self.weight, PackedWeight) else self.weight
        sizes = list(parts.values())
        for name, part in zip(parts, places_of(weight, self._bits, sizes, whole=self._whole), strict=True):
            yield f"{name}.weight", part
        if self.bias is not None:
            for name, part in zip(parts, self.bias.split(sizes), strict=True):
                yield f"{name}.bias", part

    def pack(self) -> None:
        """After loading: `tensors` gives copies from then on."""
        if isinstance(self.weight, Tensor):
            self.weight = PackedWeight(self.weight)

    def __call__(self, x: Tensor) -> Tensor:
        return multiply(x, self.weight, self.bias)


class ColumnParallelLinear(Linear):
    """`rows` of each part, and of the bias, are this rank's share."""

    def __init__(
        self, config: NetworkConfig, rows: int, columns: int, *, bias: bool, dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__(rows, columns, bias=bias, dtype=dtype, device=device, bits=config.weight_bits)
        self._rank, self._ranks = config.rank, config.ranks

    def tensors(self, parts: dict[str, int]) -> Places:
        for name, place in super().tensors(parts):
            rows = place.shape[0]
            yield name, RowShare(place, self._rank * rows, self._ranks * rows)


class RowParallelLinear(Linear):
    """`columns` are this rank's share; the result is whole, on every rank."""

    def __init__(
        self, config: NetworkConfig, rows: int, columns: int, *, bias: bool, dtype: torch.dtype, device: torch.device
    ) -> None:
        whole = config.ranks * columns
        super().__init__(rows, columns, bias=bias, dtype=dtype, device=device, bits=config.weight_bits, whole=whole)
        self._first = config.rank * columns

    def tensors(self, parts: dict[str, int]) -> Places:
        for name, place in super().tensors(parts):
            yield name, ColumnShare(place, self._first, self._whole) if name.endswith(".weight") else place

    def __call__(self, x: Tensor) -> Tensor:
        total = sum_over_ranks(multiply(x, self.weight, None))
        return total if self.bias is None else total + self.bias


def column_parallel(
    config: NetworkConfig, rows: int, columns: int, *, bias: bool, dtype: torch.dtype, device: torch.device
) -> Linear:
    """`rows`: this rank's, which are all where it is the only one."""
    if config.ranks > 1:
        return ColumnParallelLinear(config, rows, columns, bias=bias, dtype=dtype, device=device)
    return Linear(rows, columns, bias=bias, dtype=dtype, device=device, bits=config.weight_bits)


def row_parallel(
    config: NetworkConfig, rows: int, columns: int, *, bias: bool, dtype: torch.dtype, device: torch.device
) -> Linear:
    """`columns`: this rank's, which are all where it is the only one."""
    if config.ranks > 1:
        return RowParallelLinear(config, rows, columns, bias=bias, dtype=dtype, device=device)
    return Linear(rows, columns, bias=bias, dtype=dtype, device=device, bits=config.weight_bits)

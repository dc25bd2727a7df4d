"""What of a network one rank of several holds, and how a checkpoint's tensor finds its share. No communication.

Why it exists: whether a network can be divided must be known from config.json, before a process is started or a weight read.
Heads are divided, with their keys and values, and the inner sizes of the MLPs; norms are whole everywhere.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from localmodel.engine.errors import GpuCountUnsuitable
from localmodel.engine.network_config import NetworkConfig
from localmodel.engine.packing import group_of
from localmodel.engine.quantize import Place

MOST_RANKS = 16


def divide(config: NetworkConfig, rank: int, ranks: int) -> NetworkConfig:
    """The sizes of one rank's share. Raises GpuCountUnsuitable, naming the counts that work."""
    if not _divides(config, ranks):
        working = [count for count in range(1, MOST_RANKS + 1) if _divides(config, count)]
        raise GpuCountUnsuitable(
            f"this model can't be divided over {ranks} GPUs: it has {config.kv_heads} key-value heads and an intermediate size "
            f"of {config.intermediate}, and each GPU takes an equal share of both"
            + (" in whole groups of INT4" if config.weight_bits == 4 else "")
            + f". Counts that work: {', '.join(map(str, working))}."
        )
    return replace(
        config,
        heads=config.heads // ranks,
        kv_heads=config.kv_heads // ranks,
        intermediate=config.intermediate // ranks,
        rank=rank,
        ranks=ranks,
    )


def _divides(config: NetworkConfig, ranks: int) -> bool:
    """kv_heads divide the heads, so ranks that divide those divide both."""
    if config.kv_heads % ranks or config.intermediate % ranks:
        return False
    if config.weight_bits != 4:
        return True
    return all(size // ranks % (group_of(size) or 1) == 0 for size in (config.heads * config.head_dim, config.intermediate))


@dataclass(frozen=True)
class RowShare:
    """Stands for a tensor of `rows`, of which `place` takes its own from `first` on; rows beyond the last are zeros."""

    place: Place
    first: int
    rows: int

    @property
    def shape(self) -> torch.Size:
        return torch.Size((self.rows, *self.place.shape[1:]))

    @property
    def nbytes(self) -> int:
        """Of the share."""
        return self.place.nbytes

    def numel(self) -> int:
        return self.shape.numel()

    def copy_(self, source: Tensor) -> None:
        self.place.copy_(self.cut(source))

    def cut(self, whole: Tensor) -> Tensor:
        """Its rows of `whole`."""
        count = self.place.shape[0]
        part = whole[self.first : self.first + count]
        missing = count - part.shape[0]
        return torch.cat([part, part.new_zeros(missing, *part.shape[1:])]) if missing else part


@dataclass(frozen=True)
class ColumnShare:
    """Stands for a matrix of `columns`, of which `place` takes its own from `first` on."""

    place: Place
    first: int
    columns: int

    @property
    def shape(self) -> torch.Size:
        return torch.Size((self.place.shape[0], self.columns))

    @property
    def nbytes(self) -> int:
        """Of the share."""
        return self.place.nbytes

    def numel(self) -> int:
        return self.shape.numel()

    def copy_(self, source: Tensor) -> None:
        own = slice(self.first, self.first + self.place.shape[1])
        if isinstance(self.place, Tensor):
            self.place.copy_(source[:, own])
        else:
            self.place.copy_(source, own)

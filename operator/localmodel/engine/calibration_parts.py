"""The matrices of 4 bits that a network is made of, and the tensors of the checkpoint that lie in them, whole or in part.

Why it exists: rounding on samples (`calibration`) goes matrix by matrix, and the loader tensor by tensor. It rounds nothing.
"""

from typing import NamedTuple

from torch import Tensor

from localmodel.engine.network_config import NetworkConfig
from localmodel.engine.quantize import QuantizedWeight, RoundedRows, storage_of
from localmodel.engine.rounding import Groups
from localmodel.engine.runner import Network
from localmodel.engine.shards import ColumnShare, RowShare
from localmodel.engine.words import EMBEDDING, HEAD


class Part(NamedTuple):
    name: str
    place: QuantizedWeight | RoundedRows
    share: RowShare | ColumnShare | None
    """Of the checkpoint's matrix, that `place` is on this rank."""

    @property
    def columns(self) -> int:
        """Of the checkpoint's matrix."""
        return self.share.shape[1] if self.share else self.place.shape[1]

    def cut_rows(self, source: Tensor) -> Tensor:
        return self.share.cut(source) if isinstance(self.share, RowShare) else source

    def cut_groups(self, groups: Groups) -> Groups:
        """Of whole rows, those that lie here."""
        if not isinstance(self.share, ColumnShare):
            return groups
        first = self.share.first // self.place.group
        own = slice(first, first + self.place.shape[1] // self.place.group)
        return Groups(*(each[:, own] for each in groups))


Matrices = dict[int, list[Part]]
"""The parts of each matrix of 4 bits, from its first row on, by `storage_of`."""


def find_matrices(network: Network, config: NetworkConfig) -> Matrices:
    """All that multiply: an embedding that is not the head does not."""
    found: Matrices = {}
    for name, whole in network.tensors():
        share = whole if isinstance(whole, RowShare | ColumnShare) else None
        place = share.place if share else whole
        if name == EMBEDDING and not config.tied_embeddings:
            continue
        if isinstance(place, QuantizedWeight | RoundedRows) and place.bits == 4:
            found.setdefault(storage_of(place), []).append(Part(name, place, share))
    return found


def find_head(network: Network, config: NetworkConfig) -> int:
    """Its `storage_of`."""
    name = EMBEDDING if config.tied_embeddings else HEAD
    place = next(place for each, place in network.tensors() if each == name)
    return storage_of(place.place if isinstance(place, RowShare) else place)


def shapes_of(matrices: Matrices) -> list[tuple[int, int]]:
    return [(sum(part.place.shape[0] for part in parts), parts[0].columns) for parts in matrices.values()]

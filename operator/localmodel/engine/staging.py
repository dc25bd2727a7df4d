"""Brings tensors of files onto a card through memory that the card reads by itself, piece by piece.

Why it exists: a copy from a mapped file as it is goes through the driver, with one thread at 8 GB/s, and holds up whoever else
asks the card. Here all of torch's threads copy a piece while the card takes the one before. It knows no files.
"""

import itertools

import torch
from torch import Tensor

PIECE_BYTES = 16 * 2**20
LEAST_BYTES = 2**20
"""Smaller tensors are no quicker for it."""


class Staging:
    """Not for several threads at once."""

    def __init__(self, piece_bytes: int = PIECE_BYTES) -> None:
        self._pieces = [torch.empty(piece_bytes, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
        self._taken = [torch.cuda.Event() for _ in self._pieces]
        self._turns = itertools.cycle(range(2))

    def copy(self, destination: Tensor, source: Tensor) -> None:
        """Both contiguous, of one shape and dtype. `source` may change or go when this returns."""
        source, destination = (each.view(-1).view(torch.uint8) for each in (source, destination))
        size = self._pieces[0].numel()
        for part, place, turn in zip(source.split(size), destination.split(size), self._turns, strict=False):
            piece, taken = self._pieces[turn][: part.numel()], self._taken[turn]
            taken.synchronize()
            piece.copy_(part)
            place.copy_(piece, non_blocking=True)
            taken.record()


_staging: Staging | None = None


def send(source: Tensor, device: torch.device) -> Tensor:
    """`source` of a CPU on `device`."""
    if device.type != "cuda" or not suits(source):
        return source.to(device)
    made = torch.empty(source.shape, dtype=source.dtype, device=device)
    fill(made, source)
    return made


def fill(destination: Tensor, source: Tensor) -> None:
    """destination.copy_(source) of a CPU's."""
    global _staging
    if not destination.is_cuda or not suits(source) or destination.dtype != source.dtype or not destination.is_contiguous():
        destination.copy_(source)
        return
    if _staging is None:
        _staging = Staging()
    _staging.copy(destination, source)


def suits(source: Tensor) -> bool:
    return source.nbytes >= LEAST_BYTES and source.is_contiguous()

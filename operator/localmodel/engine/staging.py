"""Brings tensors of files onto a card through memory that the card reads by itself, in pieces, several at once.

Why it exists: a copy from a mapped file as it is goes through the driver, in one thread at 8 GB/s, and holds up whoever else
asks the card; four threads read 19 GB/s (H100). It knows no files. The threads are not torch's own, which wait for each
other after every piece and share the processors badly with those that compile kernels meanwhile (`rehearsal`).
"""

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

PIECE_BYTES = 8 * 2**20
THREADS = 4
LEAST_BYTES = 2**20
"""Smaller tensors are no quicker for it."""


class Staging:
    """For one thread at a time."""

    def __init__(self, piece_bytes: int = PIECE_BYTES) -> None:
        self._size = piece_bytes
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="staging")
        self._own = threading.local()

    def copy(self, destination: Tensor, source: Tensor) -> None:
        """Both contiguous, of one shape and dtype. `source` may change or go when this returns."""
        source, destination = (each.view(-1).view(torch.uint8) for each in (source, destination))
        for _ in self._pool.map(self._copy_piece, destination.split(self._size), source.split(self._size)):
            pass

    def close(self) -> None:
        self._pool.shutdown()

    def _copy_piece(self, destination: Tensor, source: Tensor) -> None:
        if not hasattr(self._own, "places"):
            places = [(torch.empty(self._size, dtype=torch.uint8, pin_memory=True), torch.cuda.Event()) for _ in range(2)]
            self._own.places = itertools.cycle(places)
        place, taken = next(self._own.places)
        piece = place[: source.numel()]
        taken.synchronize()
        np.copyto(piece.numpy(), source.numpy())
        destination.copy_(piece, non_blocking=True)
        taken.record(torch.cuda.current_stream(destination.device))


_staging: Staging | None = None


@contextmanager
def staging() -> Iterator[None]:
    """Meanwhile, `send` and `fill` take this way to a card."""
    global _staging
    _staging = Staging()
    try:
        yield
    finally:
        _staging.close()
        _staging = None


def send(source: Tensor, device: torch.device) -> Tensor:
    """`source` of a CPU on `device`."""
    if _staging is None or device.type != "cuda" or not _suits(source):
        return source.to(device)
    made = torch.empty(source.shape, dtype=source.dtype, device=device)
    _staging.copy(made, source)
    return made


def fill(destination: Tensor, source: Tensor) -> None:
    """destination.copy_(source), where source is a CPU's."""
    alike = destination.is_cuda and destination.is_contiguous() and destination.dtype == source.dtype
    if _staging is None or not alike or not _suits(source):
        destination.copy_(source)
    else:
        _staging.copy(destination, source)


def _suits(source: Tensor) -> bool:
    return source.nbytes >= LEAST_BYTES and source.is_contiguous()

"""Where our kernels run, and how each is launched.

Why it exists: what a step will launch can be compiled before it is launched, by going the same way with `only_compiling`
(`rehearsal`), and each kernel begins before the one ahead of it has ended, where a card can do that (`overlap_kernel`). It does
not import Triton's compiler, which a CPU's torch lacks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import torch
from torch import Tensor

_only_compiling: ContextVar[bool] = ContextVar("only_compiling", default=False)

compiling: ContextVar[str] = ContextVar("compiling")
"""Name of the kernel that this thread has begun to compile, in the midst of `only_compiling`."""

EVENLY = 32
"""Rows up to which a product has so few programs that it matters where they lie."""
WORTH = 160
"""Rows up to which it was measured to save time with 16 bits; products of many rows with rounded weights always begin early."""

_stages_that_fit: dict[tuple[Any, ...], int] = {}
"""By kernel and options, where not as many fit as were asked for."""


def uses_kernels(x: Tensor) -> bool:
    return x.is_cuda


@cache
def overlaps(device: torch.device) -> bool:
    """Whether the card can begin a kernel before the one ahead of it has ended: from Hopper on."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)


def overlap_of(rows: int) -> str:
    """When the kernel after a small one may begin in a step of so many rows (0041): its programs come where there is room. That
    serves those of one row, which ask for their weights meanwhile, and those of many, which stay; few come to lie unevenly. In
    larger steps it costs more than it saves."""
    return "early" if rows == 1 or EVENLY < rows <= WORTH else "late" if rows <= EVENLY else ""


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, overlap: str = "", **options: Any) -> None:
    """Its first argument is a tensor. `overlap`, of a kernel that keeps to `overlap_kernel`: it begins before its turn, and the
    next one may begin "early", once all programs of this one have, or "late", when they are about to end.

    With fewer stages where the card has not the shared memory for as many: they were chosen on one that has most.
    """
    if overlap and overlaps(arguments[0].device):
        options |= {"OVERLAP": overlap, "launch_pdl": True}
    _launch(kernel, grid, arguments, options)


def _launch(kernel: Any, grid: tuple[int, ...], arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    if _only_compiling.get():
        compiling.set(kernel.__name__)
        kernel.warmup(*arguments, grid=grid, **options)
        return
    key = (kernel, *options.items()) if _stages_that_fit else ()
    stages = _stages_that_fit.get(key, options.get("num_stages", 1))
    try:
        kernel[grid](*arguments, **{**options, "num_stages": stages} if key in _stages_that_fit else options)
    except Exception as error:
        if type(error).__name__ != "OutOfResources" or stages <= 1:
            raise
        _stages_that_fit[kernel, *options.items()] = stages - 1
        _launch(kernel, grid, arguments, options)


def only_compiles() -> bool:
    """Whether this thread launches nothing, so that its numbers mean nothing."""
    return _only_compiling.get()


@contextmanager
def only_compiling() -> Iterator[None]:
    """Nothing is launched by this thread meanwhile: what kernels would have written is left as it was."""
    token = _only_compiling.set(True)
    try:
        yield
    finally:
        _only_compiling.reset(token)

"""Where our kernels run, and how each is launched.

Why it exists: what a step will launch can be compiled before it is launched, by going the same way with `only_compiling`
(`rehearsal`). It does not import Triton's compiler, which a CPU's torch lacks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor

_only_compiling: ContextVar[bool] = ContextVar("only_compiling", default=False)


def uses_kernels(x: Tensor) -> bool:
    return x.is_cuda


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    if _only_compiling.get():
        kernel.warmup(*arguments, grid=grid, **options)
    else:
        kernel[grid](*arguments, **options)


@contextmanager
def only_compiling() -> Iterator[None]:
    """Nothing is launched by this thread meanwhile: what kernels would have written is left as it was."""
    token = _only_compiling.set(True)
    try:
        yield
    finally:
        _only_compiling.reset(token)

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

compiling: ContextVar[str] = ContextVar("compiling")
"""Name of the kernel that this thread has begun to compile, in the midst of `only_compiling`."""

_stages_that_fit: dict[tuple[Any, ...], int] = {}
"""By kernel and options, where not as many fit as were asked for."""


def uses_kernels(x: Tensor) -> bool:
    return x.is_cuda


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """With fewer stages where the card has not the shared memory for as many: they were chosen on one that has most."""
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
        launch(kernel, grid, *arguments, **options)


@contextmanager
def only_compiling() -> Iterator[None]:
    """Nothing is launched by this thread meanwhile: what kernels would have written is left as it was."""
    token = _only_compiling.set(True)
    try:
        yield
    finally:
        _only_compiling.reset(token)

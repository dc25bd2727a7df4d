"""Where our kernels run, and how each is launched.

Why it exists: tensors without memory (torch's device `meta`) take the same way through a network as a card's, and what would
be launched for them is compiled only. So what a step will need can be compiled before there is a weight (`rehearsal`). It
does not import Triton's compiler, which a CPU's torch lacks.
"""

from typing import Any

from torch import Tensor


def uses_kernels(x: Tensor) -> bool:
    return not x.is_cpu


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """The first of `arguments` says where."""
    if arguments[0].is_meta:
        kernel.warmup(*arguments, grid=grid, **options)
    else:
        kernel[grid](*arguments, **options)

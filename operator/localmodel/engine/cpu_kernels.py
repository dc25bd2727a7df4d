"""The small steps between two products on a processor, in C: what `fused_kernels` and `paged_attention` are on a card.

Why it exists: `cpu_kernels.c` and those beside it take addresses and believe what they are told; here is what makes that true.
An optional part of the wheel: where no compiler was when it was built, `serves` says no and torch's operators are used.
"""

import ctypes
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from localmodel import c_library

DTYPES = (torch.bfloat16, torch.float32)
MOST_HEAD_SIZE = 256


_POINTER, _NUMBER, _REAL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
_library, _absence = c_library.load(
    Path(__file__).parent,
    "_cpu_kernels",
    {
        "attend_rows": ([*[_POINTER] * 6, *[_NUMBER] * 5, _REAL, _NUMBER, _NUMBER], None),
        "add_rms_norm": ([*[_POINTER] * 5, _NUMBER, _NUMBER, _REAL, _NUMBER, _NUMBER], None),
        "turn_and_store": ([*[_POINTER] * 7, *[_NUMBER] * 7], None),
        "gated_silu": ([_POINTER, _POINTER, *[_NUMBER] * 4], None),
        "multiply": ([*[_POINTER] * 5, *[_NUMBER] * 4], None),
        "products_serve": ([], ctypes.c_int),
    },
)
"""After torch, whose OpenMP library and threads it shares."""


def built() -> bool:
    return _library is not None


def absence() -> str:
    """Why it is not built, for the log."""
    return _absence


def multiplies() -> bool:
    """Whether `multiply` may be called on this processor."""
    return _library is not None and bool(_library.localmodel_products_serve())


def serves(x: Tensor) -> bool:
    return _library is not None and x.is_cpu and x.dtype in DTYPES and x.is_contiguous()


def _how(x: Tensor) -> tuple[int, int]:
    return x.dtype == torch.bfloat16, torch.get_num_threads()


def attend_rows(
    queries: Tensor, keys: Tensor, values: Tensor, mixed: Tensor, table: NDArray[np.int32], places: NDArray[np.int32],
    scale: float, window: int | None,
) -> None:  # fmt: skip
    """Fills rows of `mixed` from rows of `queries`, [N, A, D] each, over keys, values [tokens, K, D], all contiguous.

    table [R, 3]: a row, how many positions it sees, and where in `places` their tokens begin; of a window it sees the last ones.
    """
    assert _library is not None and keys.dtype == values.dtype == queries.dtype
    assert keys.is_contiguous() and values.is_contiguous() and queries.shape[2] <= MOST_HEAD_SIZE
    heads, kv_heads, size = queries.shape[1], keys.shape[1], keys.shape[2]
    _library.localmodel_attend_rows(
        queries.data_ptr(), keys.data_ptr(), values.data_ptr(), mixed.data_ptr(), table.ctypes.data, places.ctypes.data,
        len(table), kv_heads, heads // kv_heads, size, window or 0, scale, *_how(queries),
    )  # fmt: skip


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """x [..., H] -> its RMS norm times weight."""
    assert _library is not None and weight.dtype == x.dtype
    normed = torch.empty_like(x)
    size = x.shape[-1]
    rows = x.numel() // size
    _library.localmodel_add_rms_norm(x.data_ptr(), 0, weight.data_ptr(), 0, normed.data_ptr(), rows, size, epsilon, *_how(x))
    return normed


def add_rms_norm(x: Tensor, delta: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """x, delta [N, H], contiguous -> (x + delta, its RMS norm times weight), [N, H] each."""
    assert _library is not None and delta.is_contiguous() and delta.dtype == weight.dtype == x.dtype and delta.shape == x.shape
    total, normed = torch.empty_like(x), torch.empty_like(x)
    _library.localmodel_add_rms_norm(
        x.data_ptr(), delta.data_ptr(), weight.data_ptr(), total.data_ptr(), normed.data_ptr(), *x.shape, epsilon, *_how(x)
    )
    return total, normed


def turn_and_store(
    qkv: Tensor, rotation: tuple[Tensor, Tensor], cache_rows: Tensor, keys: Tensor, values: Tensor, heads: int
) -> Tensor:
    """qkv [N, A + 2 K, D], rotation [N, 1, D] each, all contiguous -> turned queries [N, A, D].

    Turned keys, and values, of the first rows go to `cache_rows` [M] int64 of keys, values [tokens, K, D].
    """
    cos, sin = rotation
    assert _library is not None and cos.is_contiguous() and sin.is_contiguous() and cache_rows.is_contiguous()
    assert keys.is_contiguous() and values.is_contiguous() and keys.dtype == values.dtype == cos.dtype == sin.dtype == qkv.dtype
    rows, _, size = qkv.shape
    queries = torch.empty((rows, heads, size), dtype=qkv.dtype)
    _library.localmodel_turn_and_store(
        qkv.data_ptr(), cos.data_ptr(), sin.data_ptr(), cache_rows.data_ptr(), queries.data_ptr(), keys.data_ptr(),
        values.data_ptr(), rows, len(cache_rows), heads, keys.shape[1], size, *_how(qkv),
    )  # fmt: skip
    return queries


def gated_silu(gate_up: Tensor) -> Tensor:
    """[N, 2 I], contiguous -> silu(first half) * second half, [N, I]."""
    assert _library is not None
    rows, size = gate_up.shape[0], gate_up.shape[1] // 2
    output = torch.empty((rows, size), dtype=gate_up.dtype)
    _library.localmodel_gated_silu(gate_up.data_ptr(), output.data_ptr(), rows, size, *_how(gate_up))
    return output


def multiply(x: Tensor, blocks: Tensor, bias: Tensor | None, product: Tensor, turned: Tensor) -> None:
    """Fills `product` [M, N], M >= 1, as `cpu_products` says, which has checked and made all that is given; all is contiguous."""
    assert _library is not None
    _library.localmodel_multiply(
        x.data_ptr(), blocks.data_ptr(), 0 if bias is None else bias.data_ptr(), product.data_ptr(), turned.data_ptr(),
        *product.shape, x.shape[1], torch.get_num_threads(),
    )  # fmt: skip

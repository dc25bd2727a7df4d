"""Weights in the order in which a processor's product reads them, made once when a model is loaded.

Why it exists: torch's own product orders a matrix anew each time it is multiplied with more than one row, and in float32 uses a
library that is slow on some processors. It is for CPUs; what a card multiplies with is `quantize`'s. The order is that of
`cpu_products` where it serves, else oneDNN's, by operators of torch that Inductor uses for the same purpose; where they are not
there, weights stay as they are.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from localmodel.engine import cpu_products
from localmodel.engine.network_config import NetworkConfig
from localmodel.engine.row_counts import code_bytes

ROWS = 16
"""That oneDNN's order is best for; any other number is multiplied as well."""


class PackedWeight:
    """Stands for a matrix [N, K]."""

    def __init__(self, weight: Tensor) -> None:
        self.shape = weight.shape
        self.dtype = weight.dtype
        self.nbytes = weight.nbytes
        self.gives_rows = cpu_products.serves(weight.dtype, weight.shape[1])
        """`rows` may be called."""
        reorder = torch.ops.mkldnn._reorder_linear_weight
        self._data: Tensor = cpu_products.to_blocks(weight) if self.gives_rows else reorder(weight, ROWS)

    def dense(self) -> Tensor:
        """[N, K], a copy in the usual order."""
        return cpu_products.to_rows(self._data, self.shape[0]) if self.gives_rows else self._data.to_dense()

    def rows(self, ids: Tensor) -> Tensor:
        """Rows `ids` [R] -> [R, K]."""
        return cpu_products.take_rows(self._data, ids)

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x [M, K] @ weight.T + bias -> [M, N]. A row is rounded the same in any company (`runner`)."""
        if self.gives_rows:
            return cpu_products.multiply(x, self._data, bias, self.shape[0])
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._data, bias, "none", [], "")
        return product


def can_pack(dtype: torch.dtype) -> bool:
    """By oneDNN at least."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()))


def packing_bytes(config: NetworkConfig, dtype: torch.dtype, rows: int, chosen: int) -> int:
    """What packing takes beside the weights; nothing where all are `cpu_products`'. Else words once more where the head is the
    embedding, and the code of products of steps with at most `rows` rows, of which at most `chosen` get logits."""
    widths = (config.hidden, config.intermediate, config.heads * config.head_dim)
    if all(cpu_products.serves(dtype, columns) for columns in widths):
        return 0
    words = config.vocabulary * config.hidden * dtype.itemsize // config.ranks if config.tied_embeddings else 0
    return words + code_bytes(rows, chosen)


def pack_weights(network: Any) -> None:
    """Of all parts of a loaded `network` that have a method `pack`."""
    for part in find_parts(network):
        if hasattr(part, "pack"):
            part.pack()


def find_parts(part: Any) -> Iterator[Any]:
    """`part` and all objects of the engine's own classes in it."""
    if isinstance(part, list):
        for each in part:
            yield from find_parts(each)
    elif type(part).__module__.startswith("localmodel.engine."):
        yield part
        for each in list(getattr(part, "__dict__", {}).values()):
            yield from find_parts(each)

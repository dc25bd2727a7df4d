"""Weights in the order in which a processor's product reads them, made once when a model is loaded.

Why it exists: torch's own product orders a matrix anew each time it is multiplied with more than one row, and in float32 uses a
library that is slow on some processors. It is for CPUs; what a card multiplies with is `quantize`'s. It goes by operators of
torch that Inductor uses for the same purpose; where they are not there, weights stay as they are.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from localmodel.engine.network_config import NetworkConfig
from localmodel.engine.row_counts import code_bytes

ROWS = 16
"""That the order is best for; any other number is multiplied as well."""


class PackedWeight:
    """Stands for a matrix [N, K]."""

    def __init__(self, weight: Tensor) -> None:
        self.shape = weight.shape
        self.dtype = weight.dtype
        self.nbytes = weight.nbytes
        self._data = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)

    def dense(self) -> Tensor:
        """[N, K], a copy in the usual order."""
        return self._data.to_dense()

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x [M, K] @ weight.T + bias -> [M, N]. A row is rounded the same in any company (`runner`)."""
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._data, bias, "none", [], "")
        return product


def can_pack(dtype: torch.dtype) -> bool:
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()))


def packing_bytes(config: NetworkConfig, dtype: torch.dtype, rows: int, chosen: int) -> int:
    """What packing takes beside the weights: words once more where the head is the embedding, and the code of products of steps
    with at most `rows` rows, of which at most `chosen` get logits."""
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

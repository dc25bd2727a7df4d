"""Keys and values of all sequences: one slot per sequence, each as long as the context window.

Why it exists: the networks write and read by position in one flat token axis, so that pages can replace slots behind
the same two tensors later. It decides nothing: slots are handed out by the scheduler.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from localmodel.engine.network_config import NetworkConfig


@dataclass(frozen=True)
class KVCache:
    keys: Tensor
    """[layers, slots * context, kv_heads, head_dim]. Uninitialized where nothing was written; on a CPU such pages of
    memory are not resident."""
    values: Tensor
    slots: int
    context: int

    @classmethod
    def allocate(cls, config: NetworkConfig, slots: int, context: int, dtype: torch.dtype, device: torch.device) -> "KVCache":
        shape = (config.layers, slots * context, config.kv_heads, config.head_dim)
        keys, values = (torch.empty(shape, dtype=dtype, device=device) for _ in range(2))
        return cls(keys, values, slots, context)

    @property
    def size_bytes(self) -> int:
        return 2 * self.keys.nbytes

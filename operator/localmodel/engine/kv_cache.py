"""Keys and values of all sequences, in blocks of a fixed number of tokens on one flat token axis.

Why it exists: the networks write and read by row of that axis, whatever sequence a block belongs to. It decides nothing:
blocks are handed out by the scheduler's pool.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from localmodel.engine.network_config import NetworkConfig

CPU_BLOCK = 16
GPU_BLOCK = 64


@dataclass(frozen=True)
class KVCache:
    keys: Tensor
    """[layers, blocks * block_size, kv_heads, head_dim]. Uninitialized where nothing was written; on a CPU such pages of
    memory are not resident."""
    values: Tensor
    blocks: int
    block_size: int
    slots: int
    """Sequences that may run together."""
    context: int
    """Tokens of the longest sequence."""

    @classmethod
    def allocate(
        cls, config: NetworkConfig, blocks: int, block_size: int, slots: int, context: int,
        dtype: torch.dtype, device: torch.device,
    ) -> "KVCache":  # fmt: skip
        shape = (config.layers, blocks * block_size, config.kv_heads, config.head_dim)
        keys, values = (torch.empty(shape, dtype=dtype, device=device) for _ in range(2))
        return cls(keys, values, blocks, block_size, slots, context)

    @property
    def tokens(self) -> int:
        """That fit into all blocks."""
        return self.blocks * self.block_size

    @property
    def size_bytes(self) -> int:
        return 2 * self.keys.nbytes

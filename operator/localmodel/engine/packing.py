"""How many neighbours of a row form a group of INT4, and where their bits lie.

Why it exists: kernels and rounding agree on it, and neither needs the other. It knows nothing of values.

Rows shorter than LONG_ROW are those of small networks, which forgive less: smaller groups, 5 bits a weight instead of 4.25.
"""

import torch
from torch import Tensor

GROUPS = (128, 64, 32)
"""The largest that may be taken and divides a row is."""
LONG_ROW = 2048
SHORT_ROW_GROUP = 32


def group_of(columns: int, short: int = SHORT_ROW_GROUP) -> int:
    """Size of a row's groups, 0 if none divides it; `short`: at most, where rows are short."""
    largest = GROUPS[0] if columns >= LONG_ROW else short
    return next((size for size in GROUPS if size <= largest and columns % size == 0), 0)


def pack(numbers: Tensor) -> Tensor:
    """uint8 0 ... 15 [N, C, G] -> uint8 [N, C * G / 2]: a group's first half lies in the low halves of its bytes."""
    low, high = numbers.chunk(2, dim=-1)
    return (low | high << 4).flatten(1)


def unpack(data: Tensor, group: int) -> Tensor:
    """uint8 [N, K / 2] -> uint8 [N, K / group, group]"""
    grouped = data.unflatten(1, (-1, group // 2))
    return torch.cat([grouped & 15, grouped >> 4], dim=-1)

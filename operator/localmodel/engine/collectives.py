"""What the ranks that share a network say to each other while they compute, and how they meet. One process is one rank.

Why it exists: it is all that the engine asks of torch.distributed: NCCL between cards, gloo between processes on a CPU. Every
rank must call the same in the same order, but for one that only compiles: it says nothing, and has not met the others yet.
Nothing leaves the machine: both talk over the loopback, shared memory or NVLink.
"""

import os
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from localmodel.engine.kernels import only_compiles

MOST_SECONDS = 120.0
"""That a rank waits for the others: all have loaded when they meet, and no step takes so long."""
FIRST = 0
"""The rank that plans and chooses."""


def join(rank: int, ranks: int, meeting_file: Path, device: torch.device) -> None:
    """Waits until all `ranks` are there. `meeting_file`: the same for all, absent before the first of them."""
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(variable, "lo")
    on_card = device.type == "cuda"
    dist.init_process_group(
        "nccl" if on_card else "gloo",
        store=dist.FileStore(str(meeting_file), ranks),
        rank=rank,
        world_size=ranks,
        timeout=timedelta(seconds=MOST_SECONDS),
        device_id=device if on_card else None,
    )


def leave() -> None:
    """The others may be gone. Whoever waits in a collective between cards, in another thread, is freed, with an error or with
    garbage. Does not return while a CUDA graph holds what was said between cards."""
    if not dist.is_initialized():
        return
    if dist.get_backend() == "nccl":
        dist.distributed_c10d._abort_process_group()  # to destroy it would wait for the others
    else:
        dist.destroy_process_group()


def least_of_ranks(value: int, device: torch.device) -> int:
    """The least of what the ranks say."""
    tensor = torch.tensor([value], device=device)
    dist.all_reduce(tensor, dist.ReduceOp.MIN)
    return int(tensor)


def sum_over_ranks(x: Tensor) -> Tensor:
    """In place."""
    if not only_compiles():
        dist.all_reduce(x)
    return x


def take_from_first(x: Tensor) -> Tensor:
    """In place."""
    if not only_compiles():
        dist.broadcast(x, FIRST)
    return x


def gather_columns(x: Tensor, columns: int) -> Tensor:
    """x [N, C] of each rank -> [N, columns], C * ranks >= columns; what is beyond them is cut off."""
    rows = x.shape[0]
    if not rows or only_compiles():
        return x.new_empty(rows, columns)
    parts = x.new_empty(dist.get_world_size() * rows, x.shape[1])
    dist.all_gather_into_tensor(parts, x.contiguous())
    whole = torch.cat(parts.split(rows), dim=1)
    return whole if whole.shape[1] == columns else whole[:, :columns].contiguous()

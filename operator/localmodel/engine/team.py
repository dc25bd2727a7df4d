"""What loading asks of the ranks that share a network. Alone, it is nothing.

Why it exists: one loader serves a single process, the first of several and each other one. It must not know how they were
started (`ranks`, `rank`).
"""

from typing import Protocol

import torch

from localmodel.engine.network_config import NetworkConfig
from localmodel.engine.shards import divide


class Team(Protocol):
    def begin(self, sizes: NetworkConfig) -> NetworkConfig:
        """This rank's share. The cheap checks are over: the first starts the others. Raises GpuCountUnsuitable before that."""

    def meet(self, device: torch.device) -> None:
        """All have read their weights. Raises LoadError if one could not."""

    def agree_on(self, blocks: int) -> int:
        """So many as fit everywhere."""


class Alone:
    def begin(self, sizes: NetworkConfig) -> NetworkConfig:
        return divide(sizes, 0, 1)

    def meet(self, device: torch.device) -> None:
        pass

    def agree_on(self, blocks: int) -> int:
        return blocks

"""Small networks of tensors, written by torch as a user would: TorchScript and torch.export files, good ones and bad ones."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

MLP_TENSORS = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
}
MLP_CONFIG = {"task": "Predict", "format": "TorchScript", "tensors": MLP_TENSORS}
BAGS_CONFIG = {"task": "Predict", "format": "TorchExport"}
WORDS = 10


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Bags(nn.Module):
    """Word ids to a score and the best class; an id that is too large breaks it."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, ids: Tensor, scale: Tensor) -> dict[str, Tensor]:
        classes = self.head(self.words(ids).mean(1)) * scale
        return {"classes": classes, "best": classes.argmax(1)}


def write_mlp(directory: Path) -> MLP:
    torch.manual_seed(1)
    network = MLP().eval()
    directory.mkdir(parents=True, exist_ok=True)
    torch.jit.script(network).save(str(directory / "model.pt"))
    return network


def write_bags(directory: Path, most: int | None = 64) -> Bags:
    torch.manual_seed(2)
    network = Bags().eval()
    batch, words = Dim("batch", max=most) if most else Dim("batch"), Dim("words", max=32)
    inputs = (torch.ones(2, 5, dtype=torch.int64), torch.ones(2, 1))
    shapes: Any = {"ids": {0: batch, 1: words}, "scale": {0: batch}}
    directory.mkdir(parents=True, exist_ok=True)
    torch.export.save(torch.export.export(network, inputs, dynamic_shapes=shapes), directory / "model.pt2")
    return network

"""The task Predict: which tensors go into a network and which come out, as the resource, the engine and the gateway know them.

The words are those of the KServe open inference protocol (`datatype` FP32, `shape` with -1 for any size). Values only: it
reads no file and knows no framework.
"""

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from localmodel.api.rules import Rule, matches
from localmodel.api.values import Duration, SpecModel

Task = Literal["TextGeneration", "Embedding", "Predict"]
Format = Literal["Transformers", "TorchScript", "TorchExport"]
DataType = Literal["BOOL", "UINT8", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64"]
ELEMENT_BYTES: dict[DataType, int] = {
    "BOOL": 1, "UINT8": 1, "INT8": 1, "INT16": 2, "INT32": 4, "INT64": 8, "FP16": 2, "FP32": 4, "FP64": 8,
}  # fmt: skip
NAME_PATTERN = r"[A-Za-z0-9_.:/-]{1,64}"

TensorName = Annotated[
    str, Field(max_length=64), matches(NAME_PATTERN, "write a name of 1 to 64 letters, digits and _ . : / -, such as pixels")
]
Size = Annotated[
    int,
    Field(ge=-1, le=2**31 - 1),
    Rule("self != 0", "write a size of at least 1, or -1 for any size", lambda size: size != 0),
]


class TensorSpec(SpecModel):
    """One tensor: its name, the type of its elements, its shape."""

    name: TensorName = Field(description="Name in requests and answers.")
    datatype: DataType = Field(description="Type of an element, in the words of the open inference protocol.")
    shape: tuple[Size, ...] = Field(
        min_length=1,
        max_length=8,
        description="Sizes; -1 is any size. If the first of all tensors is -1, it is the batch: requests are computed together.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of these sizes may be sent."""
        return len(shape) == len(self.shape) and all(
            size >= 1 and allowed in (-1, size) for size, allowed in zip(shape, self.shape, strict=True)
        )

    def describe(self) -> str:
        """Such as `x FP32 [-1, 4]`."""
        return f"{self.name} {self.datatype} [{', '.join(map(str, self.shape))}]"


def count_bytes(datatype: DataType, shape: tuple[int, ...]) -> int:
    """Of a tensor of these sizes, packed."""
    return math.prod(shape) * ELEMENT_BYTES[datatype]


def _each_name_once(tensors: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """The API server knows it from the list's type."""
    if len({each.name for each in tensors}) != len(tensors):
        raise ValueError("write each name of a tensor once")
    return tensors


Tensors = Annotated[
    tuple[TensorSpec, ...],
    Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}),
    AfterValidator(_each_name_once),
]


class PredictConfig(SpecModel):
    """For task Predict: tensors of the network, and how requests wait for each other. A TorchScript file does not name its
    tensors, so it needs both lists; a torch.export file does, and they only rename its tensors or fix sizes."""

    inputs: Tensors = Field((), description="In the order of forward's arguments.")
    outputs: Tensors = Field((), description="In the order in which forward returns them.")
    batch_delay: Duration | None = Field(
        None, description="Longest wait of a request for others, to be computed together. Absent: only while one is computed."
    )


class Signature(SpecModel):
    """Of a network that is served."""

    inputs: Tensors
    outputs: Tensors
    batched: bool = False
    """The first dimension of every tensor is the batch, so that requests can be computed together."""

    def wire(self) -> "Signature":
        """As clients see it: Triton knows no tensor that is nothing but a batch, so [-1] is served as [-1, 1]."""
        return Signature(
            inputs=tuple(map(self._on_wire, self.inputs)), outputs=tuple(map(self._on_wire, self.outputs)), batched=self.batched
        )

    def _on_wire(self, tensor: TensorSpec) -> TensorSpec:
        if self.batched and len(tensor.shape) == 1:
            return tensor.model_copy(update={"shape": (*tensor.shape, 1)})
        return tensor

    def describe(self) -> str:
        """Such as `x FP32 [-1, 4] -> y FP32 [-1, 2]`."""
        sides = (", ".join(each.describe() for each in side) for side in (self.inputs, self.outputs))
        return " -> ".join(sides)

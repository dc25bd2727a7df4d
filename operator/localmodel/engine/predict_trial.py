"""Runs a network on ones before it serves: one row, then a whole batch; what it gives must be what its signature says.

Why it exists: a wrong signature, a constant that lies on another device and a batch that does not fit are the load's business,
and not the first client's. Ones, because a zero is no length and an embedding has a row 1.
"""

import re
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from localmodel.api.predict import DataType, Signature, TensorSpec
from localmodel.engine.errors import DeviceUnavailable, SignatureMismatch
from localmodel.engine.predict_signature import Described

DTYPES: dict[DataType, torch.dtype] = {
    "BOOL": torch.bool, "UINT8": torch.uint8, "INT8": torch.int8, "INT16": torch.int16, "INT32": torch.int32,
    "INT64": torch.int64, "FP16": torch.float16, "FP32": torch.float32, "FP64": torch.float64,
}  # fmt: skip
EXAMPLE_SIZES = (1, 16, 64, 224, 512)
"""Tried in turn for sizes that the file leaves open: a text may be one word, an image may not be one pixel."""

Shapes = tuple[tuple[int, ...], ...]
Run = Callable[[Sequence[Tensor]], list[Tensor]]
"""Inputs on the device to outputs, both in the signature's order."""


def try_out(run: Run, described: Described, device: torch.device) -> Shapes:
    """The shapes of one row that worked. Raises LoadError; torch's OutOfMemoryError passes through."""
    signature = described.signature
    example = _find_example(run, described, device)
    if signature.batched:
        most = described.max_batch_size
        _compute(run, signature, tuple((most, *shape[1:]) for shape in example), device)
    return example


def _find_example(run: Run, described: Described, device: torch.device) -> Shapes:
    problem, shapes = "", ()
    for shapes in _candidates(described):
        try:
            _compute(run, described.signature, shapes, device)
        except (torch.OutOfMemoryError, SignatureMismatch):
            raise
        except Exception as error:  # whatever a network of a user's raises
            problem = problem or explain(error)
        else:
            return shapes
    tried = ", ".join(
        f"{tensor.name} {tensor.datatype} {list(shape)}" for tensor, shape in zip(described.signature.inputs, shapes, strict=True)
    )
    if device.type == "cpu" and re.search("cuda|nvidia", problem, re.IGNORECASE):
        raise DeviceUnavailable(
            f"{described.file} computes on a GPU ({problem}), and this model runs on the CPU. Trace or export it on the CPU, or "
            "set spec.gpu.count to 1."
        )
    raise SignatureMismatch(f"{described.file} can't compute {tried}: {problem}")


def _candidates(described: Described) -> Iterator[Shapes]:
    if described.example:
        yield described.example
        return
    seen = set()
    for size in EXAMPLE_SIZES:
        shapes = tuple(_fill(tensor, size, batched=described.signature.batched) for tensor in described.signature.inputs)
        if shapes not in seen:
            seen.add(shapes)
            yield shapes


def _fill(tensor: TensorSpec, size: int, *, batched: bool) -> tuple[int, ...]:
    first = 1 if batched else size
    return tuple(each if each != -1 else (size if place else first) for place, each in enumerate(tensor.shape))


def _compute(run: Run, signature: Signature, shapes: Shapes, device: torch.device) -> None:
    inputs = [
        torch.ones(shape, dtype=DTYPES[t.datatype], device=device) for t, shape in zip(signature.inputs, shapes, strict=True)
    ]
    with torch.inference_mode():
        check_outputs(run(inputs), signature, rows=shapes[0][0])


def check_outputs(outputs: list[Tensor], signature: Signature, rows: int) -> None:
    """Raises SignatureMismatch."""
    given = [
        f"{str(each.dtype).removeprefix('torch.')} {list(each.shape)}" if isinstance(each, Tensor) else type(each).__name__
        for each in outputs
    ]
    good = len(outputs) == len(signature.outputs) and all(
        isinstance(output, Tensor)
        and output.dtype == DTYPES[tensor.datatype]
        and tensor.fits(tuple(output.shape))
        and (not signature.batched or output.shape[0] == rows)
        for output, tensor in zip(outputs, signature.outputs, strict=True)
    )
    if not good:
        expected = "; ".join(tensor.describe() for tensor in signature.outputs)
        raise SignatureMismatch(
            f"for {rows} rows the network gives {'; '.join(given) or 'nothing'}; its signature says {expected}"
        )


def explain(error: Exception) -> str:
    """The line of an exception that says what was wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return (lines[-1] if "TorchScript interpreter" in str(error) else lines[0])[:500]

"""Which tensors a Predict model takes and gives: from its torch.export program, from what the user wrote, or from both.

Why it exists: Triton must be told before it loads the network, and a user must be told what is missing in words that can be
pasted. It reads what an exporter wrote and computes nothing; whether the network keeps to it is seen when it is run.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localmodel.api.engine import EngineConfig
from localmodel.api.predict import NAME_PATTERN, DataType, PredictConfig, Signature, TensorSpec
from localmodel.engine.errors import SignatureMismatch, SignatureMissing
from localmodel.engine.predict_archive import open_program, open_script

_DATATYPES: dict[int, DataType] = {
    1: "UINT8", 2: "INT8", 3: "INT16", 4: "INT32", 5: "INT64", 6: "FP16", 7: "FP32", 8: "FP64", 12: "BOOL",
}  # fmt: skip
"""By torch's serialized ScalarType."""


@dataclass(frozen=True)
class Described:
    """What can be known of a network without running it."""

    file: Path
    signature: Signature
    max_batch_size: int
    """Rows of one step at most."""
    example: tuple[tuple[int, ...], ...] = ()
    """For each input the shape it was exported with, of one row; empty if nothing is known."""
    devices: frozenset[str] = frozenset()
    """That its weights were exported on."""


@dataclass(frozen=True)
class _Tensor:
    name: str
    datatype: DataType
    sizes: tuple[int | str, ...]
    """Numbers, or the expression of a size that varies."""
    hints: tuple[int, ...]
    """A number for each."""

    @property
    def spec(self) -> TensorSpec:
        shape = tuple(size if isinstance(size, int) else -1 for size in self.sizes)
        return TensorSpec(name=self.name, datatype=self.datatype, shape=shape)


def describe(config: EngineConfig) -> Described:
    """Raises LoadError."""
    written, directory = config.tensors or PredictConfig(), Path(config.model_path)
    if config.format == "TorchScript":
        file = open_script(directory).file
        if not written.inputs or not written.outputs:
            raise SignatureMissing(explain_missing(file))
        tensors = (*written.inputs, *written.outputs)
        batched = config.max_batch_size > 1 and all(tensor.shape[0] == -1 for tensor in tensors)
        return Described(file, Signature(inputs=written.inputs, outputs=written.outputs, batched=batched), config.max_batch_size)
    archive, program = open_program(directory)
    inputs, outputs = _read_inputs(archive.file, program), _read_outputs(archive.file, program)
    firsts = {tensor.sizes[0] if tensor.sizes else 0 for tensor in (*inputs, *outputs)}
    symbol = re.match(r"Symbol\('(\w+)'[^()]*\)$", str(next(iter(firsts))))
    batched = config.max_batch_size > 1 and len(firsts) == 1 and symbol is not None
    most = (program.get("range_constraints") or {}).get(symbol[1], {}).get("max_val") if batched and symbol else None
    signature = Signature(
        inputs=_merge(archive.file, "inputs", [tensor.spec for tensor in inputs], written.inputs),
        outputs=_merge(archive.file, "outputs", [tensor.spec for tensor in outputs], written.outputs),
        batched=batched,
    )
    fixed = [tensor.shape for tensor in signature.inputs]
    example = tuple(
        tuple(
            size if size != -1 else hint
            for size, hint in zip(shape, (1, *each.hints[1:]) if batched else each.hints, strict=True)
        )
        for shape, each in zip(fixed, inputs, strict=True)
    )
    weights = archive.read_json("data/weights/model_weights_config.json")["config"].values()
    devices = frozenset(str(each["tensor_meta"]["device"]["type"]) for each in weights)
    return Described(archive.file, signature, min(config.max_batch_size, most or config.max_batch_size), example, devices)


def explain_missing(file: Path, arguments: Sequence[str] = ()) -> str:
    """What to write for a TorchScript file whose forward has these arguments."""
    inputs = ", ".join(f"{{name: {name}, datatype: FP32, shape: [-1, 4]}}" for name in arguments or ("x",))
    named = f" Its forward takes {', '.join(arguments)}." if arguments else ""
    return (
        f"{file} is TorchScript, which does not say what its tensors are.{named} Write types and shapes (-1: any size) into "
        f"spec.model.config, such as config: {{inputs: [{inputs}], outputs: [{{name: y, datatype: FP32, shape: [-1, 2]}}]}}"
    )


def _read_inputs(file: Path, program: dict[str, Any]) -> list[_Tensor]:
    graph, signature = program["graph_module"]["graph"], program["graph_module"]["signature"]
    arguments = [spec["user_input"]["arg"] for spec in signature["input_specs"] if "user_input" in spec]
    return [_read_tensor(file, graph, argument, None) for argument in arguments]


def _read_outputs(file: Path, program: dict[str, Any]) -> list[_Tensor]:
    graph, signature = program["graph_module"]["graph"], program["graph_module"]["signature"]
    arguments = [spec["user_output"]["arg"] for spec in signature["output_specs"] if "user_output" in spec]
    names = _output_names(program, len(arguments))
    return [_read_tensor(file, graph, argument, name) for argument, name in zip(arguments, names, strict=True)]


def _read_tensor(file: Path, graph: dict[str, Any], argument: dict[str, Any], name: str | None) -> _Tensor:
    if "as_tensor" not in argument:
        kind = next(iter(argument), "nothing").removeprefix("as_")
        raise SignatureMismatch(f"{file} takes or gives a value that is no tensor ({kind}). Export a network of tensors only.")
    inner = argument["as_tensor"]["name"]
    meta = graph["tensor_values"][inner]
    datatype = _DATATYPES.get(meta["dtype"])
    if datatype is None or not meta["sizes"]:
        what = "an element type that requests can't carry, such as bfloat16" if datatype is None else "no dimension"
        raise SignatureMismatch(f"{file}: tensor {name or inner} has {what}. Convert it inside the network and export it again.")
    sizes = tuple(size["as_int"] if "as_int" in size else str(size["as_expr"]["expr_str"]) for size in meta["sizes"])
    hints = tuple(
        size["as_int"] if "as_int" in size else int(((size["as_expr"].get("hint") or {}).get("as_int")) or 1)
        for size in meta["sizes"]
    )
    return _Tensor(name or inner, datatype, sizes, hints)


def _output_names(program: dict[str, Any], count: int) -> list[str]:
    """The keys of a dict that forward returns; else `output`, or `output_0` and so on."""
    try:
        _, tree = json.loads(program["graph_module"]["module_call_graph"][0]["signature"]["out_spec"])
        keys = json.loads(tree["context"]) if str(tree["type"]).endswith("dict") else []
    except (ValueError, TypeError, LookupError):
        keys = []
    if isinstance(keys, list) and len(keys) == count and all(isinstance(k, str) and re.fullmatch(NAME_PATTERN, k) for k in keys):
        return keys
    return ["output"] if count == 1 else [f"output_{number}" for number in range(count)]


def _merge(file: Path, kind: str, found: list[TensorSpec], written: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """What was written wins where it says the same or more: another name, a size that the file leaves open."""
    if not written:
        return tuple(found)
    by_name = {tensor.name: tensor for tensor in written}
    ordered = [by_name[tensor.name] for tensor in found] if by_name.keys() == {t.name for t in found} else list(written)
    if len(ordered) != len(found) or not all(_says_more(each, tensor) for each, tensor in zip(ordered, found, strict=True)):
        theirs, ours = ("; ".join(tensor.describe() for tensor in side) for side in (found, written))
        raise SignatureMismatch(f"{file} has {kind} {theirs}, but spec.model.config.{kind} has {ours}")
    return tuple(ordered)


def _says_more(written: TensorSpec, found: TensorSpec) -> bool:
    return (
        written.datatype == found.datatype
        and len(written.shape) == len(found.shape)
        and all(theirs in (-1, ours) for ours, theirs in zip(written.shape, found.shape, strict=True))
    )

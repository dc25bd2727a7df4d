"""From a model file to a network that computes, or to one clear LoadError.

Why it exists: what TorchScript and torch.export differ in ends here. Only `torch.jit.load` and `torch.export.load` read the file,
and only after `predict_archive` has seen that it carries no Python code. It starts no thread and serves nothing.
"""

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export.graph_signature import ConstantArgument, InputKind
from torch.export.passes import move_to_device_pass
from torch.utils._pytree import tree_leaves, tree_unflatten

from localmodel.api.engine import EngineConfig
from localmodel.engine.device import CONTEXT_BYTES, WORKSPACE_BYTES, cap_bytes, open_device, reserve
from localmodel.engine.errors import (
    DeviceUnavailable,
    ModelFilesCorrupt,
    OutOfMemory,
    SignatureMismatch,
    SignatureMissing,
    UnsafeModelFile,
)
from localmodel.engine.memory import SERVER_BYTES
from localmodel.engine.predict_archive import SAMPLE_INPUTS, open_program, open_script
from localmodel.engine.predict_signature import Described, describe, explain_missing
from localmodel.engine.predict_trial import Run, try_out
from localmodel.engine.resident import resident_bytes

CHANNEL_BYTES = 96 * 2**20
"""Of the model's other process, which has no torch."""


@dataclass(frozen=True)
class LoadedNetwork:
    described: Described
    run: Run
    device: torch.device
    dtype: str
    """Of most of the weights."""
    parameters: int
    weights_bytes: int
    predicted_bytes: int
    example: tuple[tuple[int, ...], ...]
    """Shapes of inputs that it has computed."""
    load_seconds: float


def load_network(config: EngineConfig) -> LoadedNetwork:
    """Raises LoadError."""
    began = time.monotonic()
    described = describe(config)
    device = open_device(config)
    if device.type == "cpu" and config.cpu_threads:
        torch.set_num_threads(config.cpu_threads)
    predicted = _check_memory(config, described, device)
    load = _load_script if config.format == "TorchScript" else _load_program
    run, weights = load(described, device)
    try:
        example = try_out(run, described, device)
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(f"a batch of {described.max_batch_size} does not fit: {error}. Lower spec.maxBatchSize.") from error
    sizes: dict[torch.dtype, int] = {}
    for tensor in weights:
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.numel()
    return LoadedNetwork(
        described=described,
        run=run,
        device=device,
        dtype=str(max(sizes, key=lambda dtype: sizes[dtype], default="")).removeprefix("torch."),
        parameters=sum(sizes.values()),
        weights_bytes=sum(dtype.itemsize * count for dtype, count in sizes.items()),
        predicted_bytes=predicted,
        example=example,
        load_seconds=time.monotonic() - began,
    )


def describe_with_names(config: EngineConfig) -> Described:
    """As `describe`; that a TorchScript file has no signature is said with the names of its arguments. Raises LoadError."""
    try:
        return describe(config)
    except SignatureMissing:
        file = open_script(Path(config.model_path)).file
        names = [argument.name for argument in _arguments(_open_script(file, torch.device("cpu")))]
        raise SignatureMissing(explain_missing(file, names)) from None


def _check_memory(config: EngineConfig, described: Described, device: torch.device) -> int:
    """The predicted bytes. Raises OutOfMemory, or DeviceUnavailable for weights that belong on a card."""
    on_cpu = device.type == "cpu"
    if on_cpu and (others := sorted(described.devices - {"cpu"})):
        raise DeviceUnavailable(_belongs_on(described, ", ".join(others)))
    file_bytes = described.file.stat().st_size
    base = resident_bytes() + SERVER_BYTES + CHANNEL_BYTES if on_cpu else CONTEXT_BYTES + WORKSPACE_BYTES
    predicted, cap = base + file_bytes, cap_bytes(config, device)
    if cap is not None and predicted > cap:
        raise OutOfMemory(
            f"predicted {predicted} bytes for {described.file} ({file_bytes}) and the process itself ({base}); the cap is {cap} "
            "bytes. Raise the memory limit."
        )
    if cap is not None and not on_cpu:
        reserve(device, cap, predicted)
    return predicted


def _belongs_on(described: Described, device: str) -> str:
    return (
        f"{described.file} has weights on {device}, and this model runs on the CPU. Move the network to the CPU before it is "
        "exported, or set spec.gpu.count to 1."
    )


def _open_script(file: Path, device: torch.device) -> Any:
    try:
        return torch.jit.load(str(file), map_location=device).eval()
    except RuntimeError as error:
        raise ModelFilesCorrupt(f"{file} can't be read as TorchScript: {error}. Copy or export it again.") from error


def _arguments(network: Any) -> list[Any]:
    """Of forward, without self. Raises SignatureMismatch if one is no tensor."""
    arguments = list(network.forward.schema.arguments[1:])
    for argument in arguments:
        if str(argument.type) not in ("Tensor", "Optional[Tensor]") and not argument.has_default_value():
            raise SignatureMismatch(f"forward takes {argument.name}: {argument.type}; export a network that takes tensors only")
    return arguments


def _load_script(described: Described, device: torch.device) -> tuple[Run, list[Tensor]]:
    network, outputs = _open_script(described.file, device), described.signature.outputs
    arguments, given = _arguments(network), len(described.signature.inputs)
    needed = sum(not argument.has_default_value() for argument in arguments)
    if not needed <= given <= len(arguments):
        names = ", ".join(argument.name for argument in arguments)
        raise SignatureMismatch(f"forward of {described.file} takes {names}, but spec.model.config.inputs has {given} tensors")

    def run(tensors: Sequence[Tensor]) -> list[Tensor]:
        result = network(*tensors)
        names = [tensor.name for tensor in outputs]
        by_name = isinstance(result, dict) and set(result) == set(names)
        return [result[name] for name in names] if by_name else tree_leaves(result)

    return run, [*network.parameters(), *network.buffers()]


def _load_program(described: Described, device: torch.device) -> tuple[Run, list[Tensor]]:
    archive, program = open_program(described.file.parent)
    try:
        torch.load(io.BytesIO(archive.read(SAMPLE_INPUTS)), weights_only=True, map_location="cpu")
    except Exception as error:
        message = f"{described.file}: its example inputs are pickled Python objects and not plain tensors"
        raise UnsafeModelFile(message) from error
    try:
        exported = torch.export.load(str(described.file))
        exported = exported if device.type == "cpu" else move_to_device_pass(exported, device)
        network = exported.module(check_guards=False)
    except Exception as error:  # torch's readers raise whatever they stumble over
        made = program.get("torch_version", "an unknown torch")
        raise ModelFilesCorrupt(
            f"{described.file}, made with torch {made}, can't be read by torch {torch.__version__}: {type(error).__name__}: "
            f"{error}. Export the network again with this torch."
        ) from error
    arguments = [spec.arg for spec in exported.graph_signature.input_specs if spec.kind == InputKind.USER_INPUT]

    def run(tensors: Sequence[Tensor]) -> list[Tensor]:
        given = iter(tensors)
        leaves = [argument.value if isinstance(argument, ConstantArgument) else next(given) for argument in arguments]
        positional, named = tree_unflatten(leaves, exported.call_spec.in_spec)
        return tree_leaves(network(*positional, **named))

    return run, list(exported.state_dict.values())

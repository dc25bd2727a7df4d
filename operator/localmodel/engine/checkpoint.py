"""Copies tensors from safetensors files straight into the places that a network has made for them.

Why it exists: loading must hold one copy of the weights only, and must say exactly which tensor is absent, of another
shape, or in a damaged file. No pickle, no torch.load: a model file can't execute anything.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from localmodel.engine.errors import ModelFilesCorrupt, ModelFilesMissing

IGNORED_SUFFIXES = ("rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached")
"""Computed values that old exporters wrote beside the weights."""


def load_tensors(files: Iterable[Path], places: Iterable[tuple[str, Tensor]], ignored: frozenset[str] = frozenset()) -> None:
    """Fills every (name, destination) of `places`; a destination may be a view into a larger tensor.

    `ignored` names may be in the files and are not wanted. Raises ModelFilesMissing if a tensor is in no file,
    ModelFilesCorrupt if a file is damaged, a shape differs, or a file carries tensors that the network has no place for.
    """
    with ExitStack() as stack:
        found = {}
        for file in files:
            handle = _open(file, stack)
            found.update(dict.fromkeys(handle.keys(), (file, handle)))
        unknown = set(found) - ignored
        for name, destination in places:
            shape = list(destination.shape)
            if name not in found:
                names = ", ".join(sorted({file.name for file, _ in found.values()})) or "no file"
                raise ModelFilesMissing(f"tensor {name} with shape {shape} is in none of: {names}")
            file, handle = found[name]
            unknown.discard(name)
            actual = handle.get_slice(name).get_shape()
            if actual != shape:
                raise ModelFilesCorrupt(f"tensor {name} in {file} has shape {actual}, config.json asks for {shape}")
            try:
                destination.copy_(handle.get_tensor(name))
            except (SafetensorError, OSError) as error:
                raise ModelFilesCorrupt(f"tensor {name} in {file} can't be read: {error}") from error
        unknown = {name for name in unknown if not name.endswith(IGNORED_SUFFIXES)}
        if unknown:
            shown = ", ".join(sorted(unknown)[:5])
            raise ModelFilesCorrupt(f"{len(unknown)} tensors have no place in the network that config.json names: {shown}")


def _open(file: Path, stack: ExitStack) -> safe_open:
    try:
        return stack.enter_context(safe_open(file, framework="pt", device="cpu"))
    except (SafetensorError, OSError) as error:
        size = file.stat().st_size if file.exists() else 0
        message = f"{file} ({size} bytes) is truncated or no safetensors file: {error}. Copy it again."
        raise ModelFilesCorrupt(message) from error

"""Copies tensors from safetensors files straight into the places that a network has made for them.

Why it exists: loading must hold one copy of the weights only, and must say exactly which tensor is absent, of another
shape, or in a damaged file. No pickle, no torch.load: a model file can't execute anything.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from localmodel.engine.errors import ModelFilesCorrupt, ModelFilesMissing

FLOATS = ("F32", "F16", "BF16", "F64")
IGNORED_SUFFIXES = ("rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached")
"""Computed values that old exporters wrote beside the weights."""


def load_tensors(
    files: Iterable[Path], places: Iterable[tuple[str, Tensor]], ignored: frozenset[str] = frozenset(),
    on_read: Callable[[int], None] = lambda count: None,
) -> None:  # fmt: skip
    """Fills every (name, destination) of `places`; a destination may be a view into a larger tensor.

    `ignored` names may be in the files and are not wanted. `on_read` is told the bytes of each tensor that was read. Raises
    ModelFilesMissing if a tensor is in no file, ModelFilesCorrupt if a file is damaged, a shape differs, numbers are no floating
    point, or a file carries tensors that the network has no place for.
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
            actual, dtype = handle.get_slice(name).get_shape(), handle.get_slice(name).get_dtype()
            if actual != shape:
                raise ModelFilesCorrupt(f"tensor {name} in {file} has shape {actual}, config.json asks for {shape}")
            if dtype not in FLOATS:
                wanted = ", ".join(FLOATS)
                raise ModelFilesCorrupt(
                    f"tensor {name} in {file} has numbers of type {dtype}; expected one of {wanted}. Weights that another tool "
                    "has quantized can't be read: take the model's original files."
                )
            try:
                tensor = handle.get_tensor(name)
                destination.copy_(tensor)
                on_read(tensor.nbytes)
            except (SafetensorError, OSError) as error:
                raise ModelFilesCorrupt(f"tensor {name} in {file} can't be read: {error}") from error
        unknown = {name for name in unknown if not name.endswith(IGNORED_SUFFIXES)}
        if unknown:
            shown = ", ".join(sorted(unknown)[:5])
            raise ModelFilesCorrupt(f"{len(unknown)} tensors have no place in the network that config.json names: {shown}")


@contextmanager
def open_tensors(files: Iterable[Path]) -> Iterator[Callable[[str], Tensor]]:
    """Gives a function that reads one tensor of `files` by its name. Raises ModelFilesCorrupt."""
    with ExitStack() as stack:
        handles = {name: handle for file in files for handle in [_open(file, stack)] for name in handle.keys()}  # noqa: SIM118
        yield lambda name: handles[name].get_tensor(name)


def _open(file: Path, stack: ExitStack) -> safe_open:
    try:
        return stack.enter_context(safe_open(file, framework="pt", device="cpu"))
    except (SafetensorError, OSError) as error:
        size = file.stat().st_size if file.exists() else 0
        message = f"{file} ({size} bytes) is truncated or no safetensors file: {error}. Copy it again."
        raise ModelFilesCorrupt(message) from error

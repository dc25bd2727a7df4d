"""Copies tensors from safetensors files straight into the places that a network has made for them.

Why it exists: loading must hold one copy of the weights only, and must say exactly which tensor is absent, of another
shape, or in a damaged file, before memory is taken for any. No pickle, no torch.load: a model file can't execute anything.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from localmodel.engine.errors import ModelFilesCorrupt, ModelFilesMissing
from localmodel.engine.quantize import Place

FLOATS = ("F32", "F16", "BF16", "F64")
IGNORED_SUFFIXES = ("rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached")
"""Computed values that old exporters wrote beside the weights."""
ROWS_AT_ONCE = 4096
SUMMED_AT_ONCE = 1 << 20
Places = Iterable[tuple[str, Place]]
Found = dict[str, tuple[Path, Any]]
"""The file of each tensor, and a handle on it."""


def check_tensors(files: Iterable[Path], places: Places, ignored: Collection[str] = ()) -> None:
    """Reads what the files say of themselves. Raises as load_tensors, but for what only the numbers tell."""
    with ExitStack() as stack:
        _check(_find(files, stack), places, ignored)


def load_tensors(
    files: Iterable[Path], places: Places, ignored: Collection[str] = (), on_read: Callable[[int], None] = lambda count: None
) -> None:
    """Fills every (name, destination) of `places`; a destination may be a view into a larger tensor.

    `ignored` names may be in the files and are not wanted. `on_read` is told the bytes of each tensor that was read. Raises
    ModelFilesMissing if a tensor is in no file, ModelFilesCorrupt if a file is damaged, a shape differs, numbers are no floating
    point, NaN or infinite, a tensor is in two files, or a file carries tensors that the network has no place for.
    """
    finite = []
    with ExitStack() as stack:
        found, places = _find(files, stack), list(places)
        _check(found, places, ignored)
        for name, destination in places:
            file, handle = found[name]
            try:
                tensor = handle.get_tensor(name)
                destination.copy_(tensor)
                on_read(tensor.nbytes)
            except (SafetensorError, OSError) as error:
                raise ModelFilesCorrupt(f"tensor {name} in {file} can't be read: {error}") from error
            numbers = destination if isinstance(destination, Tensor) else tensor
            finite.append((name, file, _sum(numbers).isfinite()))
    for name, file, all_are in finite:  # asked last: a card computes them while the next are read
        if not all_are:
            raise ModelFilesCorrupt(
                f"tensor {name} in {file} has values that are no finite numbers (NaN or infinity): with them every answer "
                "would be noise. Take a sound copy of the model."
            )


def _sum(numbers: Tensor) -> Tensor:
    """In pieces where the numbers are float16, of which many sound ones may have an infinite sum."""
    if numbers.dtype != torch.float16:
        return numbers.sum()
    return torch.stack([piece.float().sum() for piece in numbers.flatten().split(SUMMED_AT_ONCE)]).sum()


def are_different(files: Iterable[Path], one: str, other: str) -> bool:
    """Whether the files carry both tensors and they are not the same. Raises ModelFilesCorrupt."""
    with ExitStack() as stack:
        found = _find(files, stack)
        if one not in found or other not in found:
            return False
        first, second = (found[name][1].get_slice(name) for name in (one, other))
        shape = first.get_shape()
        if shape != second.get_shape() or not shape:
            return True
        pieces = (slice(at, at + ROWS_AT_ONCE) for at in range(0, shape[0], ROWS_AT_ONCE))
        return not all(torch.equal(first[piece], second[piece]) for piece in pieces)


@contextmanager
def open_tensors(files: Iterable[Path]) -> Iterator[Callable[[str], Tensor]]:
    """Gives a function that reads one tensor of `files` by its name. Raises ModelFilesCorrupt."""
    with ExitStack() as stack:
        found = _find(files, stack)
        yield lambda name: found[name][1].get_tensor(name)


def _find(files: Iterable[Path], stack: ExitStack) -> Found:
    found: Found = {}
    for file in files:
        handle = _open(file, stack)
        for name in handle.keys():  # noqa: SIM118
            if name in found:
                raise ModelFilesCorrupt(
                    f"tensor {name} is in {found[name][0]} and in {file}: which of them counts can't be told. Remove the file "
                    "that is not of this model."
                )
            found[name] = (file, handle)
    return found


def _check(found: Found, places: Places, ignored: Collection[str]) -> None:
    unknown = set(found).difference(ignored)
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
    unknown = {name for name in unknown if not name.endswith(IGNORED_SUFFIXES)}
    if unknown:
        shown = ", ".join(sorted(unknown)[:5])
        raise ModelFilesCorrupt(f"{len(unknown)} tensors have no place in the network that config.json names: {shown}")


def _open(file: Path, stack: ExitStack) -> Any:
    try:
        return stack.enter_context(safe_open(file, framework="pt", device="cpu"))
    except (SafetensorError, OSError) as error:
        size = file.stat().st_size if file.exists() else 0
        message = f"{file} ({size} bytes) is truncated or no safetensors file: {error}. Copy it again."
        raise ModelFilesCorrupt(message) from error

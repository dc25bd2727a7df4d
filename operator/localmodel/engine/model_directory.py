"""Reads a Hugging Face model directory: what network it describes and where its tensors are.

Why it exists: everything a user can get wrong about a model's files is found and explained here, before any memory is
taken. Safetensors and JSON only; nothing here executes what it reads, and nothing is written.
"""

import errno
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localmodel.engine.errors import ModelFilesCorrupt, ModelFilesMissing

EXPECTED = "a model directory has config.json, *.safetensors and tokenizer.json"
_POINTER = b"version https://git-lfs.github.com/spec/"
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True)
class ModelDirectory:
    path: Path
    config: dict[str, Any]
    """config.json as it is."""
    architecture: str
    """Such as LlamaForCausalLM; empty if config.json names none."""
    stop_tokens: frozenset[int]
    """End-of-sequence ids of generation_config.json, else of config.json."""
    weight_files: tuple[Path, ...]
    tokenizer_file: Path

    @property
    def name(self) -> str:
        return str(self.path)


def open_model_directory(path: Path) -> ModelDirectory:
    """Raises ModelFilesMissing or ModelFilesCorrupt, saying what is there and what is expected."""
    try:
        directory = _describe(path)
    except OSError as error:
        raise ModelFilesMissing(_unreadable(error.filename or path, error)) from error
    for file in (*directory.weight_files, directory.tokenizer_file):
        if not os.access(file, os.R_OK, effective_ids=True):
            raise ModelFilesMissing(_unreadable(file, PermissionError(errno.EACCES, os.strerror(errno.EACCES))))
        if _is_pointer(file):
            raise ModelFilesMissing(f"{file} is a pointer of Git LFS, not the file: run `git lfs pull` there and copy it again.")
    return directory


def _is_pointer(file: Path) -> bool:
    """What `git clone` leaves in place of large files where Git LFS is not installed."""
    with file.open("rb") as start:
        return start.read(len(_POINTER)) == _POINTER


def _unreadable(file: object, error: OSError) -> str:
    advice = f" Make the files readable for user {os.getuid()}, or for everyone: chmod -R a+rX."
    return f"{file} can't be read: {error.strerror}.{advice * isinstance(error, PermissionError)}"


def _describe(path: Path) -> ModelDirectory:
    if not path.is_dir():
        state = "is a file" if path.exists() else "does not exist"
        raise ModelFilesMissing(f"{path} {state}; {EXPECTED}. Check spec.model.source and the volume it is mounted from.")
    if not (path / "config.json").is_file():
        raise ModelFilesMissing(f"{path} has no config.json; {EXPECTED}. {_contents(path)}")
    config = _read_json(path / "config.json")
    if not (path / "tokenizer.json").is_file():
        raise ModelFilesMissing(f"{path} has no tokenizer.json; {EXPECTED}. {_contents(path)}")
    return ModelDirectory(
        path=path,
        config=config,
        architecture=_architecture(config),
        stop_tokens=_stop_tokens(path, config),
        weight_files=_weight_files(path),
        tokenizer_file=path / "tokenizer.json",
    )


def _contents(path: Path) -> str:
    names = sorted(entry.name + "/" * entry.is_dir() for entry in path.iterdir())
    if not names:
        return "It is empty."
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    return f"It contains: {shown}."


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelFilesCorrupt(f"{path} is not JSON: {error}. Copy the file again.") from error
    if not isinstance(document, dict):
        raise ModelFilesCorrupt(f"{path} must be a JSON object, not {type(document).__name__}")
    return document


def _architecture(config: dict[str, Any]) -> str:
    names = config.get("architectures") or [""]
    if not isinstance(names, list) or not isinstance(names[0], str):
        raise ModelFilesCorrupt(f"config.json: architectures must be a list of names, it is {names!r}. Copy the file again.")
    return names[0]


def _stop_tokens(path: Path, config: dict[str, Any]) -> frozenset[int]:
    generation = path / "generation_config.json"
    ids = _read_json(generation).get("eos_token_id") if generation.is_file() else None
    if ids is None:
        ids = config.get("eos_token_id")
    if ids is None:
        return frozenset()
    ids = ids if isinstance(ids, list) else [ids]
    if not all(isinstance(each, int) for each in ids):
        raise ModelFilesCorrupt(f"{path}: eos_token_id must be a token's number or a list of them, it is {ids!r}")
    return frozenset(ids)


def _read_shards(index: Path) -> list[str]:
    places = _read_json(index).get("weight_map", {})
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise ModelFilesCorrupt(f"{index}: weight_map must name the file of each tensor. Copy the file again.")
    return sorted(set(places.values()))


def _weight_files(path: Path) -> tuple[Path, ...]:
    """All shards that the index names; without an index `model.safetensors`, which others may lie beside, else all there are."""
    if (path / INDEX).is_file():
        names = _read_shards(path / INDEX)
        absent = [name for name in names if not (path / name).is_file()]
        if absent or not names:
            raise ModelFilesMissing(f"{path / INDEX} names {len(names)} files, absent: {', '.join(absent[:5]) or 'all'}")
        return tuple(path / name for name in names)
    if (path / SINGLE).is_file():
        return (path / SINGLE,)
    files = tuple(sorted(path.glob("*.safetensors")))
    if not files:
        other = sorted(entry.name for entry in path.iterdir() if entry.suffix in {".bin", ".pt", ".pth", ".gguf"})
        hint = f" {', '.join(other[:3])} can't be used: convert to safetensors." if other else ""
        raise ModelFilesMissing(f"{path} has no *.safetensors;{hint} {EXPECTED}. {_contents(path)}")
    return files

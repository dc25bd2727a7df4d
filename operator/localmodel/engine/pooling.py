"""How the vectors of a text's tokens become the one vector of the text.

Why it exists: a model's files say it (sentence-transformers' modules.json), and computing something else would give vectors
that look right and compare wrongly. The result always has unit length, as OpenAI's embeddings have.
"""

import json
from pathlib import Path
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor

from localmodel.engine.errors import ModelFilesCorrupt, ModelFilesMissing, UnsupportedArchitecture

Pooling = Literal["mean", "cls"]
MODES: dict[str, Pooling] = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")


def read_pooling(model: Path) -> Pooling:
    """mean, where the directory says nothing. Raises LoadError for what is not computed here."""
    file = model / "modules.json"
    if not file.is_file():
        return "mean"
    modules = _read(file)
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    unknown = [kind for kind in kinds if kind not in KNOWN_MODULES]
    if unknown:
        raise UnsupportedArchitecture(f"{file} names {', '.join(unknown)}; supported: {', '.join(KNOWN_MODULES)}")
    folders = [str(module.get("path", "")) for module, kind in zip(modules, kinds, strict=True) if kind == "Pooling"]
    if not folders:
        return "mean"
    config = _read(model / folders[0] / "config.json")
    asked = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    if len(asked) != 1 or asked[0] not in MODES:
        named = ", ".join(asked) or "no pooling mode"
        raise UnsupportedArchitecture(f"{model / folders[0] / 'config.json'} asks for {named}; supported: {', '.join(MODES)}")
    return MODES[asked[0]]


def pool(states: Tensor, mask: Tensor | None, pooling: Pooling) -> Tensor:
    """states [B, L, H], mask [B, L] bool or None -> [B, H] float32 of unit length."""
    states = states.float()
    if pooling == "cls":
        vectors = states[:, 0]
    elif mask is None:
        vectors = states.mean(dim=1)
    else:
        weights = mask.unsqueeze(-1).float()
        vectors = (states * weights).sum(dim=1) / weights.sum(dim=1)
    return F.normalize(vectors, dim=-1)


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except OSError as error:
        raise ModelFilesMissing(f"{file} can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelFilesCorrupt(f"{file} is not JSON: {error}. Copy the file again.") from error

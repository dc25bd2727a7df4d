"""Which architectures of config.json are computed here, and by what.

Why it exists: one list, so that a refusal names all that would have been accepted. A family is one file; it must not know
this one.
"""

from typing import Protocol

import torch
from torch import Tensor

from localmodel.engine.attention import Batch
from localmodel.engine.errors import UnsupportedArchitecture
from localmodel.engine.kv_cache import KVCache
from localmodel.engine.layers import Places
from localmodel.engine.llama import LlamaNetwork
from localmodel.engine.network_config import NetworkConfig
from localmodel.engine.qwen2 import Qwen2Network

ENCODERS = ("BertModel",)


class Decoder(Protocol):
    """A network that generates text. Weights are uninitialized until `tensors` is loaded."""

    def __init__(self, config: NetworkConfig, context: int, dtype: torch.dtype, device: torch.device) -> None: ...

    def tensors(self) -> Places: ...

    def __call__(self, batch: Batch, cache: KVCache, rows: Tensor | None) -> Tensor: ...


DECODERS: dict[str, type[Decoder]] = {
    "LlamaForCausalLM": LlamaNetwork,
    "MistralForCausalLM": LlamaNetwork,
    "Qwen2ForCausalLM": Qwen2Network,
}


def choose_decoder(architecture: str) -> type[Decoder]:
    """Raises UnsupportedArchitecture, naming what is supported."""
    if architecture in DECODERS:
        return DECODERS[architecture]
    hint = ". It makes embeddings: set spec.model.task: Embedding" if architecture in ENCODERS else ""
    raise UnsupportedArchitecture(f"config.json names {_named(architecture)}; supported: {', '.join(sorted(DECODERS))}{hint}")


def check_encoder(architecture: str) -> None:
    """Raises UnsupportedArchitecture, naming what is supported."""
    if architecture not in ENCODERS:
        hint = ". It generates text: set spec.model.task: TextGeneration" if architecture in DECODERS else ""
        supported = f"supported for the task Embedding: {', '.join(ENCODERS)}"
        raise UnsupportedArchitecture(f"config.json names {_named(architecture)}; {supported}{hint}")


def _named(architecture: str) -> str:
    return architecture or "nothing"

"""Which architectures of config.json are computed here, and by what.

Why it exists: one list, so that a refusal names all that would have been accepted. A family is one file; it must not know
this one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from localmodel.engine.attention import Batch
from localmodel.engine.errors import UnsupportedArchitecture
from localmodel.engine.gemma3 import Gemma3Network, parse_gemma3_config
from localmodel.engine.kv_cache import KVCache
from localmodel.engine.linear import Places
from localmodel.engine.llama import LlamaNetwork, parse_llama_config, parse_mistral_config
from localmodel.engine.network_config import NetworkConfig
from localmodel.engine.qwen2 import Qwen2Network, parse_qwen_config
from localmodel.engine.qwen3 import Qwen3Network, parse_qwen3_config

ENCODERS = ("BertModel",)


class Decoder(Protocol):
    """A network that generates text. Weights are uninitialized until `tensors` is loaded."""

    def __init__(self, config: NetworkConfig, context: int, dtype: torch.dtype, device: torch.device) -> None: ...

    def tensors(self) -> Places: ...

    def __call__(self, batch: Batch, cache: KVCache, rows: Tensor | None) -> Tensor: ...


class Family(NamedTuple):
    network: type[Decoder]
    parse: Callable[[dict[str, Any]], NetworkConfig]
    """From config.json. Raises LoadError."""


DECODERS = {
    "Gemma3ForCausalLM": Family(Gemma3Network, parse_gemma3_config),
    "LlamaForCausalLM": Family(LlamaNetwork, parse_llama_config),
    "MistralForCausalLM": Family(LlamaNetwork, parse_mistral_config),
    "Qwen2ForCausalLM": Family(Qwen2Network, parse_qwen_config),
    "Qwen3ForCausalLM": Family(Qwen3Network, parse_qwen3_config),
}


def choose_decoder(architecture: str) -> Family:
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

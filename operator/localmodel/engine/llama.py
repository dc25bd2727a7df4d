"""The Llama family: Llama, SmolLM2, Mistral. Read from top to bottom.

Why it exists: one file per family shows all of its mathematics. It must not know about scheduling, sampling or files.
"""

from typing import Any

import torch
from torch import Tensor

from localmodel.engine.attention import Batch
from localmodel.engine.kv_cache import KVCache
from localmodel.engine.layers import Attention, GatedMLP, Residual, RMSNorm, RotaryTable
from localmodel.engine.linear import Places
from localmodel.engine.network_config import NetworkConfig, parse_network_config
from localmodel.engine.words import make_words

MISTRAL_DEFAULTS = {"sliding_window": 4096, "num_key_value_heads": 8}
"""Of what a file may leave out."""


def parse_llama_config(config: dict[str, Any]) -> NetworkConfig:
    """It has no window, whatever a converter left in the file. Raises as parse_network_config."""
    return parse_network_config({**config, "sliding_window": None})


def parse_mistral_config(config: dict[str, Any]) -> NetworkConfig:
    """Every layer has a window, unless the file says null or names the layers that have one. Raises as parse_network_config."""
    always = {"use_sliding_window": True, "max_window_layers": None, "attention_bias": False, "mlp_bias": False}
    return parse_network_config({**MISTRAL_DEFAULTS, **config, **always})


class LlamaBlock:
    def __init__(self, config: NetworkConfig, window: int | None, dtype: torch.dtype, device: torch.device) -> None:
        bias = config.attention_bias
        self.attention_norm = RMSNorm(config.hidden, config.norm_epsilon, dtype, device)
        self.attention = Attention(config, qkv_bias=bias, output_bias=bias, dtype=dtype, device=device, window=window)
        self.mlp_norm = RMSNorm(config.hidden, config.norm_epsilon, dtype, device)
        self.mlp = GatedMLP(config, dtype, device)

    def tensors(self, prefix: str) -> Places:
        yield f"{prefix}.input_layernorm.weight", self.attention_norm.weight
        yield from self.attention.tensors(f"{prefix}.self_attn")
        yield f"{prefix}.post_attention_layernorm.weight", self.mlp_norm.weight
        yield from self.mlp.tensors(f"{prefix}.mlp")

    def __call__(
        self, residual: Residual, rotation: tuple[Tensor, Tensor], batch: Batch, keys: Tensor, values: Tensor
    ) -> Residual:
        x, normed = self.attention_norm.add(residual)
        x, normed = self.mlp_norm.add((x, self.attention(normed, rotation, batch, keys, values)))
        return x, self.mlp(normed)


class LlamaNetwork:
    def __init__(self, config: NetworkConfig, context: int, dtype: torch.dtype, device: torch.device) -> None:
        """Weights are uninitialized until `tensors` is loaded."""
        self.config = config
        self.words = make_words(config, dtype, device)
        self.rotary = RotaryTable(config.rope, config.head_dim, context, dtype, device)
        self.blocks = [LlamaBlock(config, window, dtype, device) for window in config.windows]
        self.norm = RMSNorm(config.hidden, config.norm_epsilon, dtype, device)

    def tensors(self) -> Places:
        yield from self.words.tensors()
        for number, block in enumerate(self.blocks):
            yield from block.tensors(f"model.layers.{number}")
        yield "model.norm.weight", self.norm.weight

    def __call__(self, batch: Batch, cache: KVCache, rows: Tensor | None) -> Tensor:
        """Logits [len(rows), vocabulary] of the rows named, None: of all; keys and values of all rows go into the cache."""
        residual: Residual = self.words.embed(batch.tokens), None
        rotation = self.rotary.at(batch.positions)
        for number, block in enumerate(self.blocks):
            residual = block(residual, rotation, batch, cache.keys[number], cache.values[number])
        x, delta = residual
        if rows is not None:
            x, delta = x[rows], None if delta is None else delta[rows]
        return self.words.logits(self.norm.add((x, delta))[1])

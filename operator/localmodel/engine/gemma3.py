"""The Gemma 3 family, text only. Read from top to bottom.

Differences from Llama: norms multiply by 1 + weight, and there is one behind attention and MLP too; queries and keys are
normed head by head; embeddings are scaled by the root of the hidden size; gelu instead of silu; five layers of six see a
window only and turn their positions by another base.

Why it exists: one file per family shows all of its mathematics. It must not know about scheduling, sampling or files.
"""

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from localmodel.engine.attention import Batch
from localmodel.engine.config_fields import MOST_LAYERS, positive, positive_number
from localmodel.engine.errors import UnsupportedArchitecture
from localmodel.engine.kv_cache import KVCache
from localmodel.engine.layers import Attention, GatedMLP, RMSNorm, RotaryTable
from localmodel.engine.linear import Places
from localmodel.engine.network_config import NetworkConfig, check_activation, read_sizes, refuse_wrong_kinds
from localmodel.engine.rope import parse_rope_parameters
from localmodel.engine.words import make_words

LOCAL_THETA, GLOBAL_THETA = 10_000.0, 1_000_000.0
PATTERN = 6
"""Every so manieth layer sees everything."""
DEFAULTS = {"sliding_window": 4096, "head_dim": 256, "num_key_value_heads": 4}
"""Of what a file may leave out."""
NO_CHOICE = {"mlp_bias": False, "use_sliding_window": True}
"""What other families' files may say, and this one's network has not."""
NOT_COMPUTED = ("attn_logit_softcapping", "final_logit_softcapping", "use_bidirectional_attention")

Rotation = tuple[Tensor, Tensor]


@refuse_wrong_kinds
def parse_gemma3_config(config: dict[str, Any]) -> NetworkConfig:
    """Raises ModelFilesCorrupt for absent or impossible values, UnsupportedArchitecture for what is not computed here."""
    check_activation(config, "hidden_activation", "gelu_pytorch_tanh")
    for key in NOT_COMPUTED:
        if config.get(key):
            raise UnsupportedArchitecture(f"{key} {config[key]!r} is not supported for Gemma 3")
    both = config.get("rope_parameters") or {}
    far = {**(both.get("full_attention") or {}), **(config.get("rope_scaling") or {})}
    layers, pattern = positive(config, "num_hidden_layers", most=MOST_LAYERS), positive(config, "sliding_window_pattern", PATTERN)
    kinds = ["full_attention" if (number + 1) % pattern == 0 else "sliding_attention" for number in range(layers)]
    named = {key: value for key, value in config.items() if value is not None}
    sizes = read_sizes(
        {**DEFAULTS, "layer_types": kinds, **named, **NO_CHOICE},
        parse_rope_parameters(far, positive_number(config, "rope_theta", GLOBAL_THETA), config),
    )
    near = positive_number(config, "rope_local_base_freq", LOCAL_THETA)
    return replace(
        sizes,
        tied_embeddings=bool(config.get("tie_word_embeddings", True)),
        attention_scale=positive_number(config, "query_pre_attn_scalar", 256) ** -0.5,
        local_rope=parse_rope_parameters(both.get("sliding_attention") or {}, near, config),
    )


class Gemma3Norm(RMSNorm):
    def __call__(self, x: Tensor) -> Tensor:
        normed = F.rms_norm(x.float(), self.weight.shape, None, self.epsilon)
        return (normed * (1 + self.weight.float())).to(x.dtype)


class Gemma3Attention(Attention):
    def __init__(self, config: NetworkConfig, window: int | None, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(
            config, qkv_bias=config.attention_bias, output_bias=config.attention_bias, dtype=dtype, device=device,
            scale=config.attention_scale, window=window,
        )  # fmt: skip
        self.query_norm = Gemma3Norm(config.head_dim, config.norm_epsilon, dtype, device)
        self.key_norm = Gemma3Norm(config.head_dim, config.norm_epsilon, dtype, device)

    def tensors(self, prefix: str) -> Places:
        yield from super().tensors(prefix)
        yield f"{prefix}.q_norm.weight", self.query_norm.weight
        yield f"{prefix}.k_norm.weight", self.key_norm.weight

    def turn_and_store(self, qkv: Tensor, rotation: Rotation, batch: Batch, keys: Tensor, values: Tensor) -> Tensor:
        queries, new_keys, new_values = qkv.split([self.heads, self.kv_heads, self.kv_heads], dim=1)
        normed = torch.cat([self.query_norm(queries), self.key_norm(new_keys), new_values], dim=1)
        return super().turn_and_store(normed, rotation, batch, keys, values)


class Gemma3MLP(GatedMLP):
    """gelu(gate(x)) * up(x), then down."""

    def __call__(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.gelu(gate, approximate="tanh") * up)


class Gemma3Block:
    def __init__(self, config: NetworkConfig, window: int | None, dtype: torch.dtype, device: torch.device) -> None:
        make = (config.hidden, config.norm_epsilon, dtype, device)
        self.local = window is not None
        self.attention = Gemma3Attention(config, window, dtype, device)
        self.mlp = Gemma3MLP(config, dtype, device)
        self.before_attention, self.after_attention = Gemma3Norm(*make), Gemma3Norm(*make)
        self.before_mlp, self.after_mlp = Gemma3Norm(*make), Gemma3Norm(*make)

    def tensors(self, prefix: str) -> Places:
        yield f"{prefix}.input_layernorm.weight", self.before_attention.weight
        yield from self.attention.tensors(f"{prefix}.self_attn")
        yield f"{prefix}.post_attention_layernorm.weight", self.after_attention.weight
        yield f"{prefix}.pre_feedforward_layernorm.weight", self.before_mlp.weight
        yield from self.mlp.tensors(f"{prefix}.mlp")
        yield f"{prefix}.post_feedforward_layernorm.weight", self.after_mlp.weight

    def __call__(self, x: Tensor, rotation: Rotation, batch: Batch, keys: Tensor, values: Tensor) -> Tensor:
        x = x + self.after_attention(self.attention(self.before_attention(x), rotation, batch, keys, values))
        return x + self.after_mlp(self.mlp(self.before_mlp(x)))


class Gemma3Network:
    def __init__(self, config: NetworkConfig, context: int, dtype: torch.dtype, device: torch.device) -> None:
        """Weights are uninitialized until `tensors` is loaded."""
        self.config = config
        self.words = make_words(config, dtype, device)
        self.scale = float(torch.tensor(config.hidden**0.5, dtype=dtype))
        self.rotary = RotaryTable(config.rope, config.head_dim, context, dtype, device)
        self.local_rotary = RotaryTable(config.local_rope or config.rope, config.head_dim, context, dtype, device)
        self.blocks = [Gemma3Block(config, window, dtype, device) for window in config.windows]
        self.norm = Gemma3Norm(config.hidden, config.norm_epsilon, dtype, device)

    def tensors(self) -> Places:
        yield from self.words.tensors()
        for number, block in enumerate(self.blocks):
            yield from block.tensors(f"model.layers.{number}")
        yield "model.norm.weight", self.norm.weight

    def __call__(self, batch: Batch, cache: KVCache, rows: Tensor | None) -> Tensor:
        """Logits [len(rows), vocabulary] of the rows named, None: of all; keys and values of all rows go into the cache."""
        x = self.words.embed(batch.tokens) * self.scale
        near, far = self.local_rotary.at(batch.positions), self.rotary.at(batch.positions)
        for number, block in enumerate(self.blocks):
            x = block(x, near if block.local else far, batch, cache.keys[number], cache.values[number])
        return self.words.logits(self.norm(x if rows is None else x[rows]))

"""The BERT encoder, as sentence embedding models use it. Read from top to bottom.

Why it exists: one file per family shows all of its mathematics. It must not know about pooling, batching or files. Every
token sees every token of its own text; texts of one batch are padded at their ends and the padding is seen by none.

Shapes: B texts, L tokens of the longest, H hidden, A heads, D head_dim.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from localmodel.engine.config_fields import MOST_LAYERS, positive, positive_number
from localmodel.engine.errors import ModelFilesCorrupt, UnsupportedArchitecture
from localmodel.engine.linear import Places
from localmodel.engine.network_config import refuse_wrong_kinds

GELU = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}
IGNORED = ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias")
"""What checkpoints carry and a sentence embedding does not use."""


@dataclass(frozen=True)
class BertConfig:
    layers: int
    hidden: int
    intermediate: int
    heads: int
    vocabulary: int
    max_context: int
    token_types: int
    norm_epsilon: float
    gelu: str
    """The name that torch has for the approximation."""


@refuse_wrong_kinds
def parse_bert_config(config: dict[str, Any]) -> BertConfig:
    """Raises ModelFilesCorrupt for absent or impossible values, UnsupportedArchitecture for what is not computed here."""
    activation = config.get("hidden_act", "gelu")
    if activation not in GELU:
        raise UnsupportedArchitecture(f"activation {activation!r} is not supported; supported: {', '.join(GELU)}")
    kind = config.get("position_embedding_type", "absolute")
    if kind != "absolute":
        raise UnsupportedArchitecture(f"position embedding {kind!r} is not supported; supported: absolute")
    if config.get("is_decoder"):
        raise UnsupportedArchitecture("config.json makes BERT a decoder (is_decoder); only the encoder is supported")
    hidden, heads = positive(config, "hidden_size"), positive(config, "num_attention_heads")
    if hidden % heads:
        raise ModelFilesCorrupt(f"config.json: hidden_size {hidden} is no multiple of num_attention_heads {heads}")
    return BertConfig(
        layers=positive(config, "num_hidden_layers", most=MOST_LAYERS),
        hidden=hidden,
        intermediate=positive(config, "intermediate_size"),
        heads=heads,
        vocabulary=positive(config, "vocab_size"),
        max_context=positive(config, "max_position_embeddings"),
        token_types=positive(config, "type_vocab_size", 2),
        norm_epsilon=positive_number(config, "layer_norm_eps", 1e-12),
        gelu=GELU[activation],
    )


class Dense:
    def __init__(self, inputs: int, outputs: int, dtype: torch.dtype, device: torch.device) -> None:
        self.weight = torch.empty(outputs, inputs, dtype=dtype, device=device)
        self.bias = torch.empty(outputs, dtype=dtype, device=device)

    def tensors(self, prefix: str) -> Places:
        yield f"{prefix}.weight", self.weight
        yield f"{prefix}.bias", self.bias

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class LayerNorm:
    def __init__(self, size: int, epsilon: float, dtype: torch.dtype, device: torch.device) -> None:
        self.weight = torch.empty(size, dtype=dtype, device=device)
        self.bias = torch.empty(size, dtype=dtype, device=device)
        self.epsilon = epsilon

    def tensors(self, prefix: str) -> Places:
        yield f"{prefix}.weight", self.weight
        yield f"{prefix}.bias", self.bias

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


class BertLayer:
    def __init__(self, config: BertConfig, dtype: torch.dtype, device: torch.device) -> None:
        hidden = config.hidden
        self.heads = config.heads
        self.qkv = Dense(hidden, 3 * hidden, dtype, device)
        self.output = Dense(hidden, hidden, dtype, device)
        self.attention_norm = LayerNorm(hidden, config.norm_epsilon, dtype, device)
        self.up = Dense(hidden, config.intermediate, dtype, device)
        self.down = Dense(config.intermediate, hidden, dtype, device)
        self.norm = LayerNorm(hidden, config.norm_epsilon, dtype, device)
        self.gelu = config.gelu

    def tensors(self, prefix: str) -> Places:
        weights, biases = self.qkv.weight.chunk(3), self.qkv.bias.chunk(3)
        for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            yield f"{prefix}.attention.self.{name}.weight", weight
            yield f"{prefix}.attention.self.{name}.bias", bias
        yield from self.output.tensors(f"{prefix}.attention.output.dense")
        yield from self.attention_norm.tensors(f"{prefix}.attention.output.LayerNorm")
        yield from self.up.tensors(f"{prefix}.intermediate.dense")
        yield from self.down.tensors(f"{prefix}.output.dense")
        yield from self.norm.tensors(f"{prefix}.output.LayerNorm")

    def __call__(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x [B, L, H], mask [B, 1, 1, L] bool or None where nothing is padding."""
        texts, length, hidden = x.shape
        heads = self.qkv(x).view(texts, length, 3, self.heads, hidden // self.heads)
        queries, keys, values = heads.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        x = self.attention_norm(x + self.output(mixed.transpose(1, 2).reshape(texts, length, hidden)))
        return self.norm(x + self.down(F.gelu(self.up(x), approximate=self.gelu)))


class BertNetwork:
    def __init__(self, config: BertConfig, dtype: torch.dtype, device: torch.device) -> None:
        """Weights are uninitialized until `tensors` is loaded."""
        make = {"dtype": dtype, "device": device}
        self.config = config
        self.words = torch.empty(config.vocabulary, config.hidden, **make)
        self.positions = torch.empty(config.max_context, config.hidden, **make)
        self.types = torch.empty(config.token_types, config.hidden, **make)
        self.norm = LayerNorm(config.hidden, config.norm_epsilon, dtype, device)
        self.layers = [BertLayer(config, dtype, device) for _ in range(config.layers)]

    def tensors(self) -> Places:
        yield "embeddings.word_embeddings.weight", self.words
        yield "embeddings.position_embeddings.weight", self.positions
        yield "embeddings.token_type_embeddings.weight", self.types
        yield from self.norm.tensors("embeddings.LayerNorm")
        for number, layer in enumerate(self.layers):
            yield from layer.tensors(f"encoder.layer.{number}")

    def __call__(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """tokens [B, L] int64, mask [B, L] bool (True: a token) or None -> [B, L, H]; padding's rows mean nothing."""
        x = F.embedding(tokens, self.words) + self.positions[: tokens.shape[1]] + self.types[0]
        x = self.norm(x)
        seen = None if mask is None else mask[:, None, None, :]
        for layer in self.layers:
            x = layer(x, seen)
        return x

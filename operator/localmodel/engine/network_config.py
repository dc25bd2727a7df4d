"""The sizes and constants of a decoder network, read from config.json.

Why it exists: config.json has two dialects (before and after transformers 5) and many optional keys; the networks see
one frozen form. It refuses what the networks can't compute, rather than computing something else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

from localmodel.engine.config_fields import MOST_LAYERS, positive, positive_number
from localmodel.engine.errors import ModelFilesCorrupt, UnsupportedArchitecture
from localmodel.engine.rope import Rope, parse_rope

Sizes = TypeVar("Sizes")


@dataclass(frozen=True)
class NetworkConfig:
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    max_context: int
    """Positions the network was made for."""
    norm_epsilon: float
    tied_embeddings: bool
    attention_bias: bool
    mlp_bias: bool
    rope: Rope
    windows: tuple[int | None, ...]
    """Of each layer: how many positions a token sees, itself included; None: all before it."""
    attention_scale: float | None = None
    """Of the scores; None: head_dim ** -0.5."""
    local_rope: Rope | None = None
    """Of the layers with a window, where it is another."""
    weight_bits: int = 16
    """Of a matrix's numbers; 16: as many as the dtype has. Not the model's but the user's wish."""
    rank: int = 0
    ranks: int = 1
    """That share the network. Heads, kv_heads and intermediate are then the share of this one (`shards.divide`)."""

    @property
    def kv_elements_per_token(self) -> int:
        return 2 * self.layers * self.kv_heads * self.head_dim


def refuse_wrong_kinds(parse: Callable[[dict[str, Any]], Sizes]) -> Callable[[dict[str, Any]], Sizes]:
    """Of values in config.json, such as a text where a number belongs: ModelFilesCorrupt, whichever of them it is."""

    @wraps(parse)
    def run(config: dict[str, Any]) -> Sizes:
        try:
            return parse(config)
        except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
            message = f"config.json has a value of the wrong kind ({error}). Copy the model's files again."
            raise ModelFilesCorrupt(message) from error

    return run


@refuse_wrong_kinds
def parse_network_config(config: dict[str, Any]) -> NetworkConfig:
    """Raises ModelFilesCorrupt for absent or impossible values, UnsupportedArchitecture for what is not computed here."""
    check_activation(config, "hidden_act", "silu")
    return read_sizes(config, parse_rope(config))


def read_sizes(config: dict[str, Any], rope: Rope) -> NetworkConfig:
    """For families that read their rotary embedding in their own way. Raises as parse_network_config."""
    if config.get("quantization_config"):
        method = config["quantization_config"].get("quant_method", "unknown")
        raise UnsupportedArchitecture(f"weights quantized by {method!r} are not supported; use float32 or bfloat16 weights")
    heads = positive(config, "num_attention_heads")
    hidden = positive(config, "hidden_size")
    layers = positive(config, "num_hidden_layers", most=MOST_LAYERS)
    kv_heads = positive(config, "num_key_value_heads", heads)
    if heads % kv_heads:
        raise ModelFilesCorrupt(f"config.json: num_attention_heads {heads} is no multiple of num_key_value_heads {kv_heads}")
    head_dim = positive(config, "head_dim", hidden // heads)
    if head_dim % 2:
        raise ModelFilesCorrupt(f"config.json: head_dim must be even, because its halves are turned together; it is {head_dim}")
    return NetworkConfig(
        layers=layers,
        hidden=hidden,
        intermediate=positive(config, "intermediate_size"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocabulary=positive(config, "vocab_size"),
        max_context=max(positive(config, "max_position_embeddings"), int(rope.context)),
        norm_epsilon=positive_number(config, "rms_norm_eps", 1e-6),
        tied_embeddings=bool(config.get("tie_word_embeddings", False)),
        attention_bias=bool(config.get("attention_bias", False)),
        mlp_bias=bool(config.get("mlp_bias", False)),
        rope=rope,
        windows=_parse_windows(config, layers),
    )


def check_activation(config: dict[str, Any], key: str, supported: str) -> None:
    """Raises UnsupportedArchitecture."""
    activation = config.get(key) or supported
    if activation != supported:
        raise UnsupportedArchitecture(f"activation {activation!r} is not supported; supported: {supported}")


def _parse_windows(config: dict[str, Any], layers: int) -> tuple[int | None, ...]:
    """Which of the keys count, and what they are where they are absent, differs between families, which fill them in."""
    if not config.get("sliding_window") or not config.get("use_sliding_window", True):
        return (None,) * layers
    window = positive(config, "sliding_window")
    kinds = config.get("layer_types") or [
        "sliding_attention" if number >= (config.get("max_window_layers") or 0) else "full_attention" for number in range(layers)
    ]
    unknown = sorted(set(kinds) - {"sliding_attention", "full_attention"})
    if unknown or len(kinds) != layers:
        raise UnsupportedArchitecture(f"layer_types must name {layers} of sliding_attention, full_attention; found {kinds}")
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)

"""The sizes and constants of a decoder network, read from config.json.

Why it exists: config.json has two dialects (before and after transformers 5) and many optional keys; the networks see
one frozen form. It refuses what the networks can't compute, rather than computing something else.
"""

from dataclasses import dataclass
from typing import Any

from localmodel.engine.errors import ModelFilesCorrupt, UnsupportedArchitecture


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding. `scaling` is None or the llama3 parameters."""

    theta: float
    linear_factor: float = 1.0
    llama3: "Llama3Scaling | None" = None


@dataclass(frozen=True)
class Llama3Scaling:
    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_context: int


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
    """Positions the network was made for; a sliding window, which the engine does not compute, lowers it."""
    norm_epsilon: float
    tied_embeddings: bool
    attention_bias: bool
    mlp_bias: bool
    rope: Rope

    @property
    def kv_elements_per_token(self) -> int:
        return 2 * self.layers * self.kv_heads * self.head_dim


def parse_network_config(config: dict[str, Any]) -> NetworkConfig:
    """Raises ModelFilesCorrupt for absent or impossible values, UnsupportedArchitecture for what is not computed here."""
    if config.get("quantization_config"):
        method = config["quantization_config"].get("quant_method", "unknown")
        raise UnsupportedArchitecture(f"weights quantized by {method!r} are not supported; use float32 or bfloat16 weights")
    activation = config.get("hidden_act", "silu")
    if activation != "silu":
        raise UnsupportedArchitecture(f"activation {activation!r} is not supported; supported: silu")
    heads = positive(config, "num_attention_heads")
    hidden = positive(config, "hidden_size")
    max_context = positive(config, "max_position_embeddings")
    window = config.get("sliding_window")
    if window and config.get("use_sliding_window", True):
        max_context = min(max_context, window)
    kv_heads = config.get("num_key_value_heads") or heads
    if heads % kv_heads:
        raise ModelFilesCorrupt(f"config.json: num_attention_heads {heads} is no multiple of num_key_value_heads {kv_heads}")
    return NetworkConfig(
        layers=positive(config, "num_hidden_layers"),
        hidden=hidden,
        intermediate=positive(config, "intermediate_size"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=config.get("head_dim") or hidden // heads,
        vocabulary=positive(config, "vocab_size"),
        max_context=max_context,
        norm_epsilon=float(config.get("rms_norm_eps", 1e-6)),
        tied_embeddings=bool(config.get("tie_word_embeddings", False)),
        attention_bias=bool(config.get("attention_bias", False)),
        mlp_bias=bool(config.get("mlp_bias", False)),
        rope=_parse_rope(config),
    )


def positive(config: dict[str, Any], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or value < 1:
        raise ModelFilesCorrupt(f"config.json: {key} must be a positive integer, it is {value!r}")
    return value


def _parse_rope(config: dict[str, Any]) -> Rope:
    parameters = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = float(parameters.get("rope_theta") or config.get("rope_theta") or 10_000.0)
    kind = parameters.get("rope_type") or parameters.get("type") or "default"
    if kind == "default":
        return Rope(theta)
    if kind == "linear":
        return Rope(theta, linear_factor=float(parameters["factor"]))
    if kind == "llama3":
        scaling = Llama3Scaling(
            factor=float(parameters["factor"]),
            low_frequency_factor=float(parameters["low_freq_factor"]),
            high_frequency_factor=float(parameters["high_freq_factor"]),
            original_context=int(parameters["original_max_position_embeddings"]),
        )
        return Rope(theta, llama3=scaling)
    raise UnsupportedArchitecture(f"rope scaling {kind!r} is not supported; supported: default, linear, llama3")

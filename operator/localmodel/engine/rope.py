"""How a network marks positions: the kinds of rotary embedding and their parameters, read from config.json.

Why it exists: config.json has several dialects for the same parameters, and a kind that is not computed here must be refused,
never replaced by another. Pure: the tables are made in `layers`.
"""

import math
from dataclasses import dataclass
from typing import Any

from localmodel.engine.errors import ModelFilesCorrupt, UnsupportedArchitecture

SUPPORTED = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True)
class Llama3Scaling:
    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_context: int


@dataclass(frozen=True)
class YarnScaling:
    factor: float
    original_context: int
    fast: float
    """Turns within the original context above which a frequency stays as it is."""
    slow: float
    """Turns below which it is divided by `factor`."""
    truncate: bool


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding; at most one of the scalings."""

    theta: float
    linear_factor: float = 1.0
    llama3: Llama3Scaling | None = None
    yarn: YarnScaling | None = None
    amplitude: float = 1.0
    """Cosines and sines are multiplied by it."""

    @property
    def context(self) -> float:
        """Positions that the scaling was made for; 0 where it does not say."""
        return self.yarn.factor * self.yarn.original_context if self.yarn else 0


def parse_rope(config: dict[str, Any]) -> Rope:
    """Raises ModelFilesCorrupt for absent or impossible values, UnsupportedArchitecture for what is not computed here."""
    parameters = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return parse_rope_parameters(parameters, float(config.get("rope_theta") or 10_000.0), config)


def parse_rope_parameters(parameters: dict[str, Any], theta: float, config: dict[str, Any]) -> Rope:
    """`theta` where the parameters name none; `config` is the whole config.json."""
    theta = float(parameters.get("rope_theta") or theta)
    kind = parameters.get("rope_type") or parameters.get("type") or "default"
    if (part := parameters.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1) != 1:
        raise UnsupportedArchitecture(f"partial_rotary_factor {part} is not supported; supported: 1")
    if kind == "default":
        return Rope(theta)
    if kind == "linear":
        return Rope(theta, linear_factor=_number(parameters, "factor"))
    if kind == "llama3":
        scaling = Llama3Scaling(
            factor=_number(parameters, "factor"),
            low_frequency_factor=_number(parameters, "low_freq_factor"),
            high_frequency_factor=_number(parameters, "high_freq_factor"),
            original_context=int(_number(parameters, "original_max_position_embeddings")),
        )
        return Rope(theta, llama3=scaling)
    if kind == "yarn":
        return _parse_yarn(parameters, theta, config)
    raise UnsupportedArchitecture(f"rope scaling {kind!r} is not supported; supported: {', '.join(SUPPORTED)}")


def _parse_yarn(parameters: dict[str, Any], theta: float, config: dict[str, Any]) -> Rope:
    longest = _number(config, "max_position_embeddings")
    original = _number({"original_max_position_embeddings": longest, **parameters}, "original_max_position_embeddings")
    factor = _number({"factor": longest / original, **parameters}, "factor")
    scaling = YarnScaling(
        factor=factor,
        original_context=int(original),
        fast=float(parameters.get("beta_fast") or 32),
        slow=float(parameters.get("beta_slow") or 1),
        truncate=bool(parameters.get("truncate", True)),
    )
    amplitude = parameters.get("attention_factor")
    if amplitude is None:
        scale, all_dimensions = parameters.get("mscale"), parameters.get("mscale_all_dim")
        if scale and all_dimensions:
            amplitude = _amplitude(factor, scale) / _amplitude(factor, all_dimensions)
        else:
            amplitude = _amplitude(factor, 1)
    return Rope(theta, yarn=scaling, amplitude=float(amplitude))


def _amplitude(factor: float, scale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


def _number(parameters: dict[str, Any], key: str) -> float:
    value = parameters.get(key)
    if not isinstance(value, int | float) or value <= 0:
        raise ModelFilesCorrupt(f"config.json: {key}, which the rope scaling needs, must be a positive number, it is {value!r}")
    return float(value)

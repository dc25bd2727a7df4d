"""How a network marks positions: the kinds of rotary embedding and their parameters, read from config.json.

Why it exists: config.json has several dialects for the same parameters, and a kind that is not computed here must be refused,
never replaced by another. Pure: the tables are made in `layers`.
"""

import math
from dataclasses import dataclass
from typing import Any

from localmodel.engine.config_fields import positive, positive_number
from localmodel.engine.errors import ModelFilesCorrupt, UnsupportedArchitecture

ORIGINAL = "original_max_position_embeddings"
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
    parameters = config.get("rope_scaling") or config.get("rope_parameters") or {}
    return parse_rope_parameters(parameters, positive_number(config, "rope_theta", 10_000.0), config)


def parse_rope_parameters(parameters: dict[str, Any], theta: float, config: dict[str, Any]) -> Rope:
    """`theta` where the parameters name none; `config` is the whole config.json."""
    theta = positive_number(parameters, "rope_theta", theta)
    kind = parameters.get("rope_type") or parameters.get("type") or "default"
    if (part := parameters.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1) != 1:
        raise UnsupportedArchitecture(f"partial_rotary_factor {part} is not supported; supported: 1")
    if kind == "default":
        return Rope(theta)
    if kind == "linear":
        return Rope(theta, linear_factor=positive_number(parameters, "factor"))
    if kind == "llama3":
        return Rope(theta, llama3=_parse_llama3(parameters, config))
    if kind == "yarn":
        return _parse_yarn(parameters, theta, config)
    raise UnsupportedArchitecture(f"rope scaling {kind!r} is not supported; supported: {', '.join(SUPPORTED)}")


def _parse_llama3(parameters: dict[str, Any], config: dict[str, Any]) -> Llama3Scaling:
    low, high = (positive_number(parameters, f"{end}_freq_factor") for end in ("low", "high"))
    if low >= high:
        raise ModelFilesCorrupt(f"config.json: high_freq_factor must be above low_freq_factor; they are {high} and {low}")
    return Llama3Scaling(positive_number(parameters, "factor"), low, high, _original_context(parameters, config))


def _parse_yarn(parameters: dict[str, Any], theta: float, config: dict[str, Any]) -> Rope:
    if theta == 1:
        raise ModelFilesCorrupt("config.json: rope_theta must not be 1, which makes all frequencies equal")
    original = _original_context(parameters, config)
    factor = positive_number(parameters, "factor", positive_number(config, "max_position_embeddings") / original)
    scaling = YarnScaling(
        factor=factor,
        original_context=original,
        fast=positive_number(parameters, "beta_fast", 32),
        slow=positive_number(parameters, "beta_slow", 1),
        truncate=bool(parameters.get("truncate", True)),
    )
    amplitude = _amplitude(factor, 1)
    if parameters.get("mscale") and parameters.get("mscale_all_dim"):
        amplitude = _amplitude(factor, parameters["mscale"]) / _amplitude(factor, parameters["mscale_all_dim"])
    return Rope(theta, yarn=scaling, amplitude=positive_number(parameters, "attention_factor", amplitude))


def _original_context(parameters: dict[str, Any], config: dict[str, Any]) -> int:
    """Positions before the scaling. Where both say it, transformers takes the outer one."""
    inner = positive(parameters, ORIGINAL, positive(config, "max_position_embeddings"))
    return positive(config, ORIGINAL, inner)


def _amplitude(factor: float, scale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0

"""Numbers of config.json, or words about what stands there instead.

Why it exists: a file that a hand or a broken tool wrote is refused with the name of the key, wherever that key is read. It knows
no network.
"""

from math import inf
from typing import Any

from localmodel.engine.errors import ModelFilesCorrupt

LARGEST, MOST_LAYERS = 2**31 - 1, 10_000
"""What any size may be: beyond, no tensor could be made of it, and no list of layers."""


def positive(config: dict[str, Any], key: str, default: int | None = None, most: int = LARGEST) -> int:
    """`default` where it is absent or null. Raises ModelFilesCorrupt."""
    value = default if config.get(key) is None else config[key]
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise ModelFilesCorrupt(f"config.json: {key} must be a positive integer, at most {most}; it is {value!r}")
    return value


def positive_number(config: dict[str, Any], key: str, default: float | None = None) -> float:
    """`default` where it is absent or null. Raises ModelFilesCorrupt."""
    value = default if config.get(key) is None else config[key]
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < inf:
        raise ModelFilesCorrupt(f"config.json: {key} must be a positive number, it is {value!r}")
    return float(value)

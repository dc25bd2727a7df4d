"""Reading single fields of an OpenAI request: the type and range checks, and what is refused.

Pure. A field that would change the answer and is not supported is refused by name, never ignored; a value that asks for
nothing (null, or OpenAI's default) is accepted.
"""

import math
from collections.abc import Mapping
from typing import Any

from localmodel.gateway import errors

NO_EFFECT = frozenset(
    {"user", "metadata", "store", "service_tier", "parallel_tool_calls", "prompt_cache_key", "safety_identifier"}
)
"""Taken and without effect here; listed in the documentation."""

_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
}
"""Values that ask for what happens anyway."""


def refuse_unknown(body: Mapping[str, Any], known: frozenset[str]) -> None:
    for name, value in body.items():
        if name in known or name in NO_EFFECT or value is None:
            continue
        if any(same(value, default) for default in _DEFAULTS.get(name, ())):
            continue
        shown = name[:64]
        if name in _DEFAULTS:
            raise errors.unsupported(shown, f"This value of '{shown}' is not supported here. Leave the field out.")
        raise errors.unsupported(shown, f"The field '{shown}' is not supported here. Leave it out.")


def same(value: Any, default: Any) -> bool:
    """Equality as JSON sees it: true is not 1."""
    return isinstance(value, bool) == isinstance(default, bool) and bool(value == default)


def number(body: Mapping[str, Any], name: str, low: float, high: float, default: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high or math.isnan(value):
        raise errors.bad_request(f"'{name}' must be a number from {low:g} to {high:g}.", name)
    return float(value)


def integer(body: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise errors.bad_request(f"'{name}' must be a whole number from {low} to {high}.", name)
    return value


def boolean(body: Mapping[str, Any], name: str, param: str | None = None) -> bool:
    value = body.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise errors.bad_request(f"'{param or name}' must be true or false.", param or name)
    return value


def stop_sequences(body: Mapping[str, Any]) -> tuple[str, ...]:
    value = body.get("stop")
    if value is None:
        return ()
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts) or len(texts) > 16:
        raise errors.bad_request("'stop' must be a text or a list of up to 16 texts, none of them empty.", "stop")
    return tuple(texts)


def include_usage(body: Mapping[str, Any], *, stream: bool) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not stream:
        raise errors.bad_request("'stream_options' is allowed only with 'stream': true.", "stream_options")
    if not isinstance(options, dict):
        raise errors.bad_request("'stream_options' must be an object.", "stream_options")
    for name, value in options.items():
        if name != "include_usage" and not (name == "include_obfuscation" and value in (None, False)):
            shown = f"stream_options.{name[:64]}"
            raise errors.unsupported(shown, f"'{shown}' is not supported here. Leave it out.")
    return boolean(options, "include_usage", "stream_options.include_usage")


def max_tokens(body: Mapping[str, Any]) -> tuple[int | None, str]:
    """The number asked for and the name it was asked by."""
    old = integer(body, "max_tokens", 1, 2**31 - 1)
    new = integer(body, "max_completion_tokens", 1, 2**31 - 1)
    if old is not None and new is not None and old != new:
        raise errors.bad_request(
            "'max_tokens' and 'max_completion_tokens' differ; send only 'max_completion_tokens'.", "max_tokens"
        )
    if new is not None:
        return new, "max_completion_tokens"
    return old, "max_tokens"

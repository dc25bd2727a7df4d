"""Reading single fields of an OpenAI request: the type and range checks, and what is refused.

Pure. A field that would change the answer and is not supported is refused by name, never ignored; a value that asks for
nothing (null, or OpenAI's default) is accepted.
"""

import math
from collections.abc import Mapping
from typing import Any

from localmodel.gateway import errors

NO_EFFECT: dict[str, type] = {
    "user": str,
    "metadata": dict,
    "store": bool,
    "service_tier": str,
    "prompt_cache_key": str,
    "prompt_cache_options": dict,
    "prompt_cache_retention": str,
    "safety_identifier": str,
    "prediction": dict,
    "parallel_tool_calls": bool,
}
"""Taken and without effect here; listed in docs/gateway.md. `parallel_tool_calls` has an effect when there are tools."""

_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "echo": (False,),
    "best_of": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "verbosity": ("medium",),
    "dimensions": (),
    "suffix": ("",),
}
"""Values that ask for what happens anyway."""

_TYPE_WORDS = {str: "a text", dict: "an object", bool: "true or false"}
MAX_CHOICES = 8
MAX_STOPS = 16
_MAX_BIASES = 1024


def refuse_unknown(body: Mapping[str, Any], known: frozenset[str]) -> None:
    for name, value in body.items():
        if name in known or value is None:
            continue
        shown = name[:64]
        kind = NO_EFFECT.get(name)
        if kind is not None:
            if not isinstance(value, kind):
                raise errors.bad_request(f"'{shown}' must be {_TYPE_WORDS[kind]}.", shown)
            continue
        if any(same(value, default) for default in _DEFAULTS.get(name, ())):
            continue
        if name in _DEFAULTS:
            raise errors.unsupported(shown, f"This value of '{shown}' is not supported here. Leave the field out.")
        raise errors.unsupported(shown, f"The field '{shown}' is not supported here. Leave it out.")


def refuse_members(document: Mapping[str, Any], known: set[str], where: str) -> None:
    """The same inside an object; null and an empty list ask for nothing."""
    for name, value in document.items():
        if name not in known and value is not None and value != []:
            param = f"{where}.{name[:64]}"
            raise errors.unsupported(param, f"'{param}' is not supported here. Leave it out.")


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
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts) or len(texts) > MAX_STOPS:
        raise errors.bad_request(f"'stop' must be a text or a list of up to {MAX_STOPS} texts, none of them empty.", "stop")
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


def choices(body: Mapping[str, Any]) -> int:
    """How many answers are wanted. `best_of` may only say the same: answers are not ranked here."""
    n = integer(body, "n", 1, MAX_CHOICES) or 1
    best_of = integer(body, "best_of", 1, MAX_CHOICES)
    if best_of not in (None, 1, n):
        raise errors.unsupported("best_of", "'best_of' is not supported here unless it equals 'n'. Leave it out.")
    return n


def logit_bias(body: Mapping[str, Any], vocabulary: int) -> dict[int, float]:
    """Token id to bias; JSON has the ids as texts."""
    value = body.get("logit_bias")
    if value is None:
        return {}
    message = f"'logit_bias' must map token ids from 0 to {vocabulary - 1} to numbers from -100 to 100, at most {_MAX_BIASES}."
    if not isinstance(value, dict) or len(value) > _MAX_BIASES:
        raise errors.bad_request(message, "logit_bias")
    biases: dict[int, float] = {}
    for key, bias in value.items():
        if not (key.isascii() and key.isdigit() and len(key) < 10 and int(key) < vocabulary) or int(key) in biases:
            raise errors.bad_request(message, "logit_bias")
        if isinstance(bias, bool) or not isinstance(bias, int | float) or not -100 <= bias <= 100:
            raise errors.bad_request(message, "logit_bias")
        biases[int(key)] = float(bias)
    return biases


def chat_logprobs(body: Mapping[str, Any]) -> int | None:
    """How many likeliest tokens to show beside each token; None: no log-probabilities at all."""
    wanted = boolean(body, "logprobs")
    top = integer(body, "top_logprobs", 0, 20)
    if top and not wanted:
        raise errors.bad_request("'top_logprobs' is allowed only with 'logprobs': true.", "top_logprobs")
    return top or 0 if wanted else None

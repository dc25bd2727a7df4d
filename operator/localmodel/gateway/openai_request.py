"""From a parsed JSON body to a Call: what the client asked for, checked, and nothing else.

Pure. It decides the order of checks inside a body (fields first, then the model's name) and must never guess.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from localmodel.api.channel import Sampling
from localmodel.gateway import errors
from localmodel.gateway import openai_fields as fields
from localmodel.gateway.openai_messages import parse_messages, parse_prompt

Endpoint = Literal["chat", "completions"]

_COMMON = frozenset({"model", "max_tokens", "temperature", "top_p", "top_k", "seed", "stop", "stream", "stream_options"})
_KNOWN: dict[Endpoint, frozenset[str]] = {
    "chat": _COMMON | {"messages", "max_completion_tokens"},
    "completions": _COMMON | {"prompt"},
}
_COMPLETIONS_DEFAULT_TOKENS = 16
"""OpenAI's; a chat answer may fill the window."""


@dataclass(frozen=True, slots=True)
class Call:
    endpoint: Endpoint
    model: str
    """The served name to show in the answer."""
    messages: list[dict[str, str]]
    """Of a chat, else empty."""
    prompt: str | tuple[int, ...]
    """Of a completion, else empty."""
    sampling: Sampling
    """`max_tokens` as asked for; absent when the client left it open."""
    max_tokens_param: str
    stream: bool
    include_usage: bool


def parse_call(endpoint: Endpoint, body: Mapping[str, Any], served: tuple[str, ...], vocabulary: int) -> Call:
    fields.refuse_unknown(body, _KNOWN[endpoint])
    asked, param = fields.max_tokens(body)
    if asked is None and endpoint == "completions":
        asked = _COMPLETIONS_DEFAULT_TOKENS
    stream = fields.boolean(body, "stream")
    return Call(
        endpoint=endpoint,
        messages=parse_messages(body) if endpoint == "chat" else [],
        prompt=parse_prompt(body, vocabulary) if endpoint == "completions" else (),
        sampling=_sampling(body, asked),
        max_tokens_param=param,
        stream=stream,
        include_usage=fields.include_usage(body, stream=stream),
        model=_model(body, served),
    )


def _sampling(body: Mapping[str, Any], max_tokens: int | None) -> Sampling:
    top_p = fields.number(body, "top_p", 0, 1, 1)
    temperature = fields.number(body, "temperature", 0, 2, 1)
    return Sampling(
        max_tokens=max_tokens,
        # OpenAI allows top_p 0; what is left then is the likeliest token.
        temperature=temperature if top_p > 0 else 0,
        top_p=top_p or 1,
        top_k=fields.integer(body, "top_k", 0, 2**31 - 1) or 0,
        seed=fields.integer(body, "seed", -(2**63), 2**63 - 1),
        stop=fields.stop_sequences(body),
    )


def _model(body: Mapping[str, Any], served: tuple[str, ...]) -> str:
    name = body.get("model")
    if name is None:
        return served[0]
    if not isinstance(name, str):
        raise errors.bad_request("'model' must be a text.", "model")
    if name not in served:
        raise errors.model_not_found(served)
    return name


def fit_window(call: Call, prompt_tokens: int, window: int) -> Sampling:
    """The sampling to send, with max_tokens filled in; refuses what can't fit, with the numbers."""
    param = "messages" if call.endpoint == "chat" else "prompt"
    if prompt_tokens < 1:
        raise errors.bad_request(f"'{param}' is empty after tokenizing.", param)
    left = window - prompt_tokens
    if left < 1:
        raise errors.context_length_exceeded(
            f"The prompt has {prompt_tokens} tokens, but this model's context window is {window} tokens, answer included. "
            "Shorten the prompt.",
            param,
        )
    asked = call.sampling.max_tokens
    if asked is None:
        return call.sampling.model_copy(update={"max_tokens": left})
    if asked > left:
        raise errors.context_length_exceeded(
            f"The prompt has {prompt_tokens} tokens and {asked} were asked for as the answer: together more than this model's "
            f"context window of {window} tokens. Ask for at most {left}, or shorten the prompt.",
            call.max_tokens_param,
        )
    return call.sampling

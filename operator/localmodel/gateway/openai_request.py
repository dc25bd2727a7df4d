"""From a parsed JSON body to a Call: what the client asked for, checked, and nothing else.

Pure. It decides the order of checks inside a body (fields first, then the model's name) and must never guess.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from localmodel.api.channel import Sampling
from localmodel.gateway import errors
from localmodel.gateway import openai_fields as fields
from localmodel.gateway.openai_format import response_schema
from localmodel.gateway.openai_messages import parse_messages, parse_prompt
from localmodel.gateway.openai_tools import Tools, parse_tools

Endpoint = Literal["chat", "completions"]

_COMMON = frozenset(
    {
        "model", "max_tokens", "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "logit_bias",
        "logprobs", "n", "seed", "stop", "stream", "stream_options",
    }
)  # fmt: skip
KNOWN: dict[Endpoint, frozenset[str]] = {
    "chat": _COMMON | {"messages", "max_completion_tokens", "top_logprobs", "response_format", "tools", "tool_choice"},
    "completions": _COMMON | {"prompt", "echo", "best_of"},
}
_COMPLETIONS_DEFAULT_TOKENS = 16
"""OpenAI's; a chat answer may fill the window."""
_COMPLETIONS_TOP_LOGPROBS = 5
_ENGINES_PREFIX = "response_format: "


@dataclass(slots=True)
class Call:
    """Nobody changes it; freezing it would cost more than the rest of making it."""

    endpoint: Endpoint
    model: str
    """The served name to show in the answer."""
    messages: list[dict[str, Any]]
    """Of a chat, else empty."""
    prompt: str | tuple[int, ...]
    """Of a completion, else empty."""
    sampling: Sampling
    """`max_tokens` as asked for; absent when the client left it open."""
    max_tokens_param: str
    stream: bool
    include_usage: bool
    n: int = 1
    """Choices wanted."""
    echo: bool = False
    """The text begins with the prompt."""
    tools: Tools | None = None
    """None when there are none, or when `tool_choice` forbids them."""

    def with_text(self, messages: list[dict[str, Any]], prompt: str | tuple[int, ...]) -> "Call":
        """Another that asks for the same."""
        return Call(
            self.endpoint, self.model, messages, prompt, self.sampling, self.max_tokens_param, self.stream, self.include_usage,
            self.n, self.echo, self.tools,
        )  # fmt: skip


def parse_call(endpoint: Endpoint, body: Mapping[str, Any], served: tuple[str, ...], vocabulary: int) -> Call:
    """Token ids are checked against `vocabulary`. Raises ApiError 400, or 404 for the model's name."""
    fields.refuse_unknown(body, KNOWN[endpoint])
    asked, param = fields.max_tokens(body)
    if asked is None and endpoint == "completions":
        asked = _COMPLETIONS_DEFAULT_TOKENS
    stream = fields.boolean(body, "stream")
    tools = parse_tools(body) if endpoint == "chat" else None
    schema = response_schema(body) if endpoint == "chat" else None
    if tools is not None and schema is not None:
        raise errors.unsupported("response_format", "'response_format' and 'tools' can't be used together here. Leave one out.")
    sampling = _sampling(body, endpoint, vocabulary)
    return Call(
        endpoint=endpoint,
        messages=parse_messages(body) if endpoint == "chat" else [],
        prompt=parse_prompt(body, vocabulary) if endpoint == "completions" else (),
        sampling=Sampling(max_tokens=asked, json_schema=schema, **sampling),
        max_tokens_param=param,
        stream=stream,
        include_usage=fields.include_usage(body, stream=stream),
        n=fields.choices(body),
        echo=_echo(body),
        tools=tools,
        model=parse_model(body, served),
    )


def _sampling(body: Mapping[str, Any], endpoint: Endpoint, vocabulary: int) -> dict[str, Any]:
    top_p = fields.number(body, "top_p", 0, 1, 1)
    temperature = fields.number(body, "temperature", 0, 2, 1)
    if endpoint == "chat":
        logprobs = fields.chat_logprobs(body)
    else:
        logprobs = fields.integer(body, "logprobs", 0, _COMPLETIONS_TOP_LOGPROBS)
    return {
        # OpenAI allows top_p 0; what is left then is the likeliest token.
        "temperature": temperature if top_p > 0 else 0,
        "top_p": top_p or 1,
        "top_k": fields.integer(body, "top_k", 0, 2**31 - 1) or 0,
        "min_p": fields.number(body, "min_p", 0, 1, 0),
        "presence_penalty": fields.number(body, "presence_penalty", -2, 2, 0),
        "frequency_penalty": fields.number(body, "frequency_penalty", -2, 2, 0),
        "logit_bias": fields.logit_bias(body, vocabulary),
        "logprobs": logprobs,
        "seed": fields.integer(body, "seed", -(2**63), 2**63 - 1),
        "stop": fields.stop_sequences(body),
    }


def _echo(body: Mapping[str, Any]) -> bool:
    echo = fields.boolean(body, "echo")
    if echo and body.get("logprobs") is not None:
        raise errors.unsupported("echo", "'echo' with 'logprobs' is not supported here. Leave one of them out.")
    return echo


def parse_model(body: Mapping[str, Any], served: tuple[str, ...]) -> str:
    name = body.get("model")
    if name is None:
        return served[0]
    if not isinstance(name, str):
        raise errors.bad_request("'model' must be a text.", "model")
    if name not in served:
        raise errors.model_not_found(served)
    return name


def sampling_of_choice(sampling: Sampling, index: int) -> Sampling:
    """Choices of one request with a seed must not all be the same text."""
    if index == 0 or sampling.seed is None:
        return sampling
    seed = sampling.seed + index
    return sampling.model_copy(update={"seed": seed if seed < 2**63 else seed - 2**64})


def fit_window(call: Call, prompt_tokens: int, window: int) -> Sampling:
    """The sampling to send, with max_tokens filled in; refuses what can't fit, with the numbers."""
    param = "messages" if call.endpoint == "chat" else "prompt"
    if prompt_tokens < 1:
        raise errors.bad_request(f"'{param}' is empty after tokenizing. Send some text.", param)
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


def blamed(error: errors.ApiError, call: Call) -> errors.ApiError:
    """A schema that the engine can't enforce is named as the field it came from; the engine calls all of them response_format."""
    schema = call.sampling.json_schema or (call.tools and call.tools.forced)
    if error.status != 400 or error.param or error.code or not schema:
        return error
    field = "tools" if call.tools else "response_format"
    reason = error.message.removeprefix(_ENGINES_PREFIX)
    if reason != error.message:
        reason = f"'{field}': {reason.rstrip('.')}. Change the schema, or leave it out."
    return errors.bad_request(reason, field)

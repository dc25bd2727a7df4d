"""What clients may ask for: each field's range, what is accepted without effect, and what is refused by name."""

from typing import Any

import pytest

from localmodel.api.channel import Sampling
from localmodel.gateway import errors
from localmodel.gateway.openai_request import Call, Endpoint, fit_window, parse_call

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
TEXT = {"model": "tiny", "prompt": "Hi"}


def parse(fields: dict[str, Any], endpoint: Endpoint = "chat") -> Call:
    body = {**(CHAT if endpoint == "chat" else TEXT), **fields}
    return parse_call(endpoint, body, ("tiny", "other"), 100)


def refused(fields: dict[str, Any], endpoint: Endpoint = "chat") -> errors.ApiError:
    with pytest.raises(errors.ApiError) as caught:
        parse(fields, endpoint)
    return caught.value


ACCEPTED: list[dict[str, Any]] = [
    {"n": 1},
    {"n": None},
    {"presence_penalty": 0, "frequency_penalty": 0.0},
    {"logprobs": False, "top_logprobs": None},
    {"response_format": {"type": "text"}},
    {"tools": [], "tool_choice": "none"},
    {"logit_bias": {}},
    {"user": "u", "metadata": {"a": "b"}, "store": True, "service_tier": "auto", "parallel_tool_calls": True},
    {"prompt_cache_key": "k", "safety_identifier": "s"},
    {"stop": None},
    {"max_tokens": 5, "max_completion_tokens": 5},
    {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}},
    {"anything": None},
    {"modalities": ["text"]},
]


@pytest.mark.parametrize("fields", ACCEPTED, ids=str)
def test_accepted(fields: dict[str, Any]) -> None:
    parse(fields)


UNSUPPORTED: list[tuple[dict[str, Any], str]] = [
    ({"n": 2}, "n"),
    ({"n": True}, "n"),
    ({"presence_penalty": 0.5}, "presence_penalty"),
    ({"logprobs": True}, "logprobs"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"tools": [{"type": "function"}]}, "tools"),
    ({"temprature": 1}, "temprature"),
    ({"x" * 500: 1}, "x" * 64),
    ({"prompt": "a"}, "prompt"),
    ({"best_of": 3}, "best_of"),
    ({"stream": True, "stream_options": {"more": 1}}, "stream_options.more"),
    ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "assistant", "content": "a", "tool_calls": [{}]}]}, "messages[0].tool_calls"),
]


@pytest.mark.parametrize(("fields", "param"), UNSUPPORTED, ids=str)
def test_unsupported_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    error = refused(fields)
    assert (error.status, error.code, error.param) == (400, "unsupported_parameter", param)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": float("inf")}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"temperature": "1"}, "temperature"),
    ({"top_p": -0.1}, "top_p"),
    ({"top_k": 1.5}, "top_k"),
    ({"seed": 2**63}, "seed"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 10**30}, "max_tokens"),
    ({"max_completion_tokens": -1}, "max_completion_tokens"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
    ({"stop": ""}, "stop"),
    ({"stop": ["a"] * 17}, "stop"),
    ({"stop": [1]}, "stop"),
    ({"stream": "true"}, "stream"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": []}, "stream_options"),
    ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ({"messages": []}, "messages"),
    ({"messages": "Hi"}, "messages"),
    ({"messages": ["Hi"]}, "messages[0]"),
    ({"messages": [{"content": "Hi"}]}, "messages[0].role"),
    ({"messages": [{"role": ["user"], "content": "Hi"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
    ({"messages": [{"role": "user", "content": "a", "name": 1}]}, "messages[0].name"),
    ({"model": 1}, "model"),
]


@pytest.mark.parametrize(("fields", "param"), WRONG, ids=str)
def test_wrong_values(fields: dict[str, Any], param: str) -> None:
    error = refused(fields)
    assert (error.status, error.code, error.param) == (400, None, param)


@pytest.mark.parametrize(
    "prompt", [None, "", [], ["a", "b"], [[1], [2]], [1, "a"], [-1], [100], [1.0], [True], {}, [[]]], ids=str
)
def test_wrong_prompts(prompt: Any) -> None:
    error = refused({"prompt": prompt}, "completions")
    assert (error.status, error.param) == (400, "prompt")


def test_what_is_read() -> None:
    parsed = parse({"temperature": 0, "top_p": 0.5, "top_k": 7, "seed": -1, "stop": "x", "max_completion_tokens": 9})
    assert parsed.sampling == Sampling(max_tokens=9, temperature=0, top_p=0.5, top_k=7, seed=-1, stop=("x",))
    assert parsed.max_tokens_param == "max_completion_tokens"
    assert parse({"top_p": 0}).sampling == Sampling(temperature=0)
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c", "refusal": None, "tool_calls": None, "annotations": [], "name": "n"},
    ]
    assert parse({"messages": messages}).messages == [
        {"role": "system", "content": "ab"},
        {"role": "assistant", "content": "c", "name": "n"},
    ]


def test_models() -> None:
    assert parse({"model": "other"}).model == "other"
    assert parse({"model": None}).model == "tiny"
    error = refused({"model": "gpt-4"})
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")
    assert "tiny, other" in error.message
    assert refused({"model": "gpt-4", "n": 2}).status == 400, "fields are checked before the model"


def test_the_window() -> None:
    assert fit_window(parse({}), 90, 100).max_tokens == 10
    assert fit_window(parse({"max_tokens": 10}), 90, 100).max_tokens == 10
    assert fit_window(parse({}, "completions"), 10, 100).max_tokens == 16
    for fields, prompt, param in (({"max_tokens": 11}, 90, "max_tokens"), ({}, 100, "messages")):
        with pytest.raises(errors.ApiError) as caught:
            fit_window(parse(fields), prompt, 100)
        assert (caught.value.status, caught.value.code, caught.value.param) == (400, "context_length_exceeded", param)
        assert str(prompt) in caught.value.message and "100" in caught.value.message
    with pytest.raises(errors.ApiError):
        fit_window(parse({}), 0, 100)

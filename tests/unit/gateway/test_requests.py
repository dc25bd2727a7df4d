"""What clients may ask for: each field's range, what is accepted without effect, and what is refused by name."""

import json
from typing import Any

import jsonschema
import pytest

from localmodel.api.channel import Sampling
from localmodel.gateway import errors, unfit
from localmodel.gateway.openai_messages import place_of_tools
from localmodel.gateway.openai_request import Call, Endpoint, blamed, fit_window, parse_call, sampling_of_choice

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
    {"n": 8},
    {"presence_penalty": -2, "frequency_penalty": 0.5, "min_p": 0.1},
    {"logprobs": False, "top_logprobs": None},
    {"logprobs": True, "top_logprobs": 20},
    {"response_format": {"type": "json_object"}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
    {"response_format": {"type": "text"}},
    {"tools": [], "tool_choice": "none"},
    {"logit_bias": {}},
    {"logit_bias": {"0": 1, "99": -100.0}},
    {"prediction": {"type": "content", "content": "a"}, "prompt_cache_retention": "24h", "prompt_cache_options": {}},
    {"verbosity": "medium"},
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


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}

UNSUPPORTED: list[tuple[dict[str, Any], str]] = [
    ({"response_format": {"type": "grammar"}}, "response_format.type"),
    ({"response_format": {"type": "json_object", "schema": {}}}, "response_format.schema"),
    ({"response_format": {"type": "json_object"}, "tools": [TOOL]}, "response_format"),
    ({"tools": [{"type": "custom", "custom": {"name": "a"}}]}, "tools[0].type"),
    ({"tools": [{**TOOL, "x": 1}]}, "tools[0].x"),
    ({"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]}, "tools[0].function.strict"),
    ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "tool_choice"),
    ({"functions": [{"name": "f"}]}, "functions"),
    ({"reasoning_effort": "low"}, "reasoning_effort"),
    ({"verbosity": "low"}, "verbosity"),
    ({"temprature": 1}, "temprature"),
    ({"x" * 500: 1}, "x" * 64),
    ({"prompt": "a"}, "prompt"),
    ({"best_of": 3}, "best_of"),
    ({"echo": True}, "echo"),
    ({"stream": True, "stream_options": {"more": 1}}, "stream_options.more"),
    ({"messages": [{"role": "function", "name": "f", "content": "a"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": "a", "tool_calls": [CALL]}]}, "messages[0].tool_calls"),
    ({"messages": [{"role": "assistant", "tool_calls": [{**CALL, "type": "custom"}]}]}, "messages[0].tool_calls[0].type"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages[0].content[0].type"),
]


@pytest.mark.parametrize(("fields", "param"), UNSUPPORTED, ids=str)
def test_unsupported_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    error = refused(fields)
    assert (error.status, error.code, error.param) == (400, "unsupported_parameter", param)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"n": 0}, "n"),
    ({"n": 9}, "n"),
    ({"n": True}, "n"),
    ({"presence_penalty": 2.5}, "presence_penalty"),
    ({"frequency_penalty": "1"}, "frequency_penalty"),
    ({"min_p": 1.1}, "min_p"),
    ({"logprobs": 1}, "logprobs"),
    ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"logit_bias": {"a": 1}}, "logit_bias"),
    ({"logit_bias": {"100": 1}}, "logit_bias"),
    ({"logit_bias": {"²": 1}}, "logit_bias"),
    ({"logit_bias": {"1": 101}}, "logit_bias"),
    ({"logit_bias": {"1": True}}, "logit_bias"),
    ({"logit_bias": {"1": 1, "01": 1}}, "logit_bias"),
    ({"logit_bias": [1]}, "logit_bias"),
    ({"response_format": "json"}, "response_format"),
    ({"response_format": {}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}}, "response_format.json_schema.name"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": []}}},
        "response_format.json_schema.schema",
    ),
    ({"tools": {}}, "tools"),
    ({"tools": [1]}, "tools[0]"),
    ({"tools": [{}]}, "tools[0].type"),
    ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "a", "parameters": 1}}]}, "tools[0].function.parameters"),
    ({"tools": [TOOL, TOOL]}, "tools"),
    ({"tools": [TOOL], "tool_choice": "always"}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"metadata": 1}, "metadata"),
    ({"store": "yes"}, "store"),
    ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].tool_call_id"),
    ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages[0].tool_calls[0]"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "{"}}]}]},
        "messages[0].tool_calls[0].function.arguments",
    ),
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


def test_what_is_read_of_the_newer_fields() -> None:
    fields = {"min_p": 0.1, "presence_penalty": 1, "frequency_penalty": -1, "logit_bias": {"7": 3}, "logprobs": True, "n": 3}
    parsed = parse(fields)
    assert parsed.n == 3
    assert parsed.sampling == Sampling(
        min_p=0.1, presence_penalty=1, frequency_penalty=-1, logit_bias={7: 3}, logprobs=0, temperature=1
    )
    assert parse({"logprobs": True, "top_logprobs": 4}).sampling.logprobs == 4
    assert parse({"response_format": {"type": "json_object"}}).sampling.json_schema == '{"type": "object"}'
    schema = {"type": "object", "properties": {"größe": {"type": "number"}}}
    strict = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}}
    assert json.loads(parse({"response_format": strict}).sampling.json_schema or "") == schema
    text = parse({"echo": True, "n": 2, "best_of": 2, "logit_bias": None}, "completions")
    assert text.echo and text.n == 2 and text.sampling.logprobs is None
    assert parse({"logprobs": 0}, "completions").sampling.logprobs == 0


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"echo": 1}, "echo"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"n": 2, "best_of": 3}, "best_of"),
        ({"suffix": "a"}, "suffix"),
        ({"messages": []}, "messages"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
    ],
    ids=str,
)
def test_completions_refuse(fields: dict[str, Any], param: str) -> None:
    assert (refused(fields, "completions").status, refused(fields, "completions").param) == (400, param)


def test_choices_with_a_seed_differ_and_repeat() -> None:
    seeded, free = Sampling(seed=2**63 - 1), Sampling()
    assert [sampling_of_choice(seeded, index).seed for index in range(3)] == [2**63 - 1, -(2**63), -(2**63) + 1]
    assert sampling_of_choice(free, 3) == free


def test_tools_are_read() -> None:
    described = {"name": "g", "description": "d", "parameters": None, "strict": None}
    tools = parse({"tools": [TOOL, {"type": "function", "function": described}], "parallel_tool_calls": False}).tools
    assert tools is not None and not tools.forced and not tools.parallel
    assert tools.shown[1]["function"] == {"name": "g", "description": "d", "parameters": {"type": "object", "properties": {}}}
    assert parse({"tools": [TOOL], "tool_choice": "none"}).tools is None
    required = parse({"tools": [TOOL, {"type": "function", "function": described}], "tool_choice": "required"}).tools
    assert required is not None and required.forced == ("f", "g")
    assert len(json.loads(required.schema("arguments"))["anyOf"]) == 2
    named = parse({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}}).tools
    assert named is not None
    closed = {**TOOL["function"]["parameters"], "additionalProperties": False}  # type: ignore[dict-item]
    assert json.loads(named.schema("parameters"))["properties"] == {"name": {"const": "f"}, "parameters": closed}


@pytest.mark.parametrize("keyword", ["additionalProperties", "patternProperties", "anyOf"])
def test_a_schema_that_speaks_of_other_arguments_is_left_as_it_is(keyword: str) -> None:
    parameters = {"type": "object", "properties": {}, keyword: {}}
    tools = parse(
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": parameters}}], "tool_choice": "required"}
    ).tools
    assert tools is not None
    assert json.loads(tools.schema("arguments"))["properties"]["arguments"] == parameters


def test_references_of_a_moved_schema_lead_where_they_led() -> None:
    node = {"$defs": {"N": {"type": "object", "properties": {"next": {"$ref": "#/$defs/N"}, "root": {"$ref": "#"}}}},
            "type": "object", "properties": {"head": {"$ref": "#/$defs/N"}}, "required": ["head"]}  # fmt: skip
    tool = {"type": "function", "function": {"name": "f", "parameters": node, "strict": True}}
    tools = parse({"tools": [tool], "tool_choice": "required"}).tools
    assert tools is not None
    validator = jsonschema.Draft202012Validator(json.loads(tools.schema("arguments")))
    assert validator.is_valid({"name": "f", "arguments": {"head": {"next": {"root": {"head": {}}}}}})
    assert not validator.is_valid({"name": "f", "arguments": {"head": {"next": {"root": {"head": 1}}}}})
    assert not validator.is_valid({"name": "g", "arguments": {"head": {}}})


def test_messages_about_tools() -> None:
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "2"}]},
    ]
    called = {"name": "f", "arguments": {"x": 1}}
    parsed = parse({"messages": messages}).messages
    assert parsed[1:] == [
        {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": called}], "content": ""},
        {"role": "tool", "content": "2", "tool_call_id": "c1"},
    ]
    assert place_of_tools(parsed) == "messages[1].tool_calls" and place_of_tools(parsed[:1]) is None


def test_models() -> None:
    assert parse({"model": "other"}).model == "other"
    assert parse({"model": None}).model == "tiny"
    error = refused({"model": "gpt-4"})
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")
    assert "tiny, other" in error.message
    assert refused({"model": "gpt-4", "n": 0}).status == 400, "fields are checked before the model"


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


def test_what_a_schema_is_blamed_for() -> None:
    """The engine has one word for the schema of an answer and for that of a demanded call."""
    no = errors.bad_request("response_format: the JSON schema can't be used: Invalid type: x")
    demanded = parse({"tools": [TOOL], "tool_choice": "required"})
    for call, field in ((demanded, "tools"), (parse({"response_format": {"type": "json_object"}}), "response_format")):
        told = blamed(no, call)
        assert (told.status, told.param) == (400, field)
        assert told.message == f"'{field}': the JSON schema can't be used: Invalid type: x. Change the schema, or leave it out."
    assert blamed(no, parse({"tools": [TOOL]})) is no
    for other in (unfit.over_capacity(9, 8), errors.draining(), errors.bad_request("x", "seed")):
        assert blamed(other, demanded) is other

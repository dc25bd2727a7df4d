"""A call that is known gives what checking it again would give, and what is wrong is refused every time."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodel.gateway import errors
from localmodel.gateway.known_calls import KnownCalls
from localmodel.gateway.openai_request import Call, Endpoint, parse_call

SERVED = ("tiny", "other")
VALUES: dict[str, list[Any]] = {
    "model": ["tiny", "other", "strange", None, 1],
    "max_tokens": [1, 1.0, True, 0, None, 16, "16"],
    "max_completion_tokens": [1, 16, None],
    "temperature": [0, 0.0, False, 1, 1.5, 3, None],
    "top_p": [0, 1, 0.5],
    "stream": [True, False, 1, None],
    "stream_options": [{"include_usage": True}, {"include_usage": False}, {}, {"x": 1}],
    "stop": ["a", ["a"], [], [""], None],
    "n": [1, 2, 9],
    "seed": [0, 1, True],
    "logprobs": [True, False, 1],
    "top_logprobs": [1, 0],
    "logit_bias": [{"3": 1}, {}],
    "user": ["u"],
    "tools": [[]],
    "messages": [
        [{"role": "user", "content": "a"}],
        [{"role": "system", "content": ""}, {"role": "user", "content": "b"}],
        [],
        None,
    ],
    "prompt": ["a", [1, 2], [], None],
}
BODIES = st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in VALUES.items()})


def outcome(parse: Any, endpoint: Endpoint, body: dict[str, Any]) -> Call | tuple[Any, ...]:
    try:
        return parse(endpoint, body, SERVED, 100)  # type: ignore[no-any-return]
    except errors.ApiError as error:
        return error.status, error.code, error.param, error.message


@given(st.lists(st.tuples(st.sampled_from(["chat", "completions"]), BODIES), min_size=1, max_size=6))
def test_it_gives_what_parse_call_gives(asked: list[tuple[Endpoint, dict[str, Any]]]) -> None:
    known = KnownCalls()
    for endpoint, body in asked + asked:
        assert outcome(known.parse, endpoint, body) == outcome(parse_call, endpoint, body)


def test_values_that_are_equal_in_python_are_not_the_same_in_json() -> None:
    known = KnownCalls()
    chat = {"messages": [{"role": "user", "content": "a"}]}
    known.parse("chat", {**chat, "max_tokens": 1}, SERVED, 100)
    with pytest.raises(errors.ApiError):
        known.parse("chat", {**chat, "max_tokens": True}, SERVED, 100)


def test_only_settings_are_kept_and_only_so_many() -> None:
    known = KnownCalls()
    for number in range(2000):
        known.parse("chat", {"messages": [{"role": "user", "content": "secret"}], "seed": number}, SERVED, 100)
    known.parse("chat", {"messages": [{"role": "user", "content": "secret"}], "stop": ["long" * 1000]}, SERVED, 100)
    assert 0 < len(known._calls) <= 512
    assert not any(call.messages or call.prompt for call in known._calls.values())
    assert max(len(key[3]) for key in known._calls) <= 512

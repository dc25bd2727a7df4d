"""The event stream of an answer, cut and broken in the ways that a gateway may do it."""

import json

import pytest

from localmodel.cli.ask import read_stream
from localmodel.cli.problems import RunFailed


def event(**choice) -> bytes:
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n"


def test_texts_in_order_without_role_keep_alive_and_usage():
    lines = [
        event(delta={"role": "assistant", "content": ""}),
        b"\n",
        b": keep-alive\n",
        event(delta={"content": "Par"}),
        event(delta={"content": "is"}),
        event(delta={}, finish_reason="stop"),
        b'data: {"choices": [], "usage": {}}\n',
        b"data: [DONE]\n",
    ]
    assert list(read_stream(lines)) == ["Par", "is"]


def test_error_in_mid_stream():
    lines = [event(delta={"content": "Par"}), b'data: {"error": {"message": "idle for 30 s"}}\n']
    stream = read_stream(lines)
    assert next(stream) == "Par"
    with pytest.raises(RunFailed, match="broke off: idle for 30 s"):
        next(stream)


def test_stream_that_just_ends():
    with pytest.raises(RunFailed, match=r"without \[DONE\]"):
        list(read_stream([event(delta={"content": "Par"})]))

"""What an embeddings request may hold, and the numbers in its answer."""

import base64
import json
import struct
from typing import Any

import pytest

from localmodel.gateway import errors
from localmodel.gateway.openai_embeddings import (
    EmbeddingCall,
    check_dimensions,
    check_lengths,
    embeddings_body,
    numbers,
    parse_embedding_call,
)


def parse(body: dict[str, Any]) -> EmbeddingCall:
    return parse_embedding_call(body, ("tiny", "other"), 100)


@pytest.mark.parametrize(
    ("value", "inputs"),
    [
        ("Hi", ("Hi",)),
        (["Hi", "Ho"], ("Hi", "Ho")),
        ([1, 2], ((1, 2),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
        (["Hi", [3]], ("Hi", (3,))),
    ],
    ids=str,
)
def test_inputs(value: Any, inputs: Any) -> None:
    assert parse({"input": value}) == EmbeddingCall("tiny", inputs, "float", None)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "input"),
    ({"input": ""}, "input"),
    ({"input": []}, "input"),
    ({"input": {}}, "input"),
    ({"input": ["a", ""]}, "input[1]"),
    ({"input": ["a", []]}, "input[1]"),
    ({"input": [100]}, "input"),
    ({"input": [1, "a"]}, "input"),
    ({"input": [[1, True]]}, "input[0]"),
    ({"input": ["a"] * 2049}, "input"),
    ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
    ({"input": "a", "encoding_format": ["float"]}, "encoding_format"),
    ({"input": "a", "dimensions": 0}, "dimensions"),
    ({"input": "a", "model": 1}, "model"),
    ({"input": "a", "user": 1}, "user"),
]


@pytest.mark.parametrize(("body", "param"), WRONG, ids=[str(number) for number in range(len(WRONG))])
def test_wrong_values(body: dict[str, Any], param: str) -> None:
    with pytest.raises(errors.ApiError) as caught:
        parse(body)
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, None, param)


def test_refused_by_name() -> None:
    with pytest.raises(errors.ApiError) as caught:
        parse({"input": "a", "stream": True})
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "stream")
    with pytest.raises(errors.ApiError, match="Use one of: tiny, other"):
        parse({"input": "a", "model": "gpt"})


def test_limits() -> None:
    check_lengths([(1,) * 5], 5)
    with pytest.raises(errors.ApiError, match="empty after tokenizing") as caught:
        check_lengths([(1,)] * 70 + [()], 5)
    assert (caught.value.status, caught.value.param) == (400, "input[70]")
    for inputs, param in (([(1,) * 6], "input"), ([(1,), (1,) * 6], "input[1]")):
        with pytest.raises(errors.ApiError) as caught:
            check_lengths(inputs, 5)
        assert (caught.value.code, caught.value.param) == ("context_length_exceeded", param)
    check_dimensions(parse({"input": "a"}), 3)
    check_dimensions(parse({"input": "a", "dimensions": 3}), 3)
    with pytest.raises(errors.ApiError, match="3 dimensions"):
        check_dimensions(parse({"input": "a", "dimensions": 2}), 3)


def test_bodies() -> None:
    values = [0.25, -1.5, 0.0]
    vector = base64.b64encode(struct.pack("<3f", *values)).decode()
    for encoding, shown in (("float", values), ("base64", vector)):
        call = parse({"input": ["a", "b"], "encoding_format": encoding})
        document = json.loads(b"".join(embeddings_body(call, [vector, vector], 7)))
        assert document == {
            "object": "list",
            "data": [{"object": "embedding", "index": index, "embedding": shown} for index in range(2)],
            "model": "tiny",
            "usage": {"prompt_tokens": 7, "total_tokens": 7},
        }
    assert all(isinstance(value, float) for value in numbers(vector)), "0.0 stays a float"
    for broken in ("!", "AAA=", "AAAAAAA="):
        with pytest.raises((ValueError, struct.error)):
            numbers(broken)

"""What must hold of a sequence whatever happens to its submit, and of events that are none."""

import asyncio
import json
from typing import Any

import pytest

from localmodel.api.channel import RESPONSE, Cancelled, Sampling
from localmodel.gateway.backend_errors import BackendGarbage, BackendGone, Refused
from localmodel.gateway.sequences import Sequences
from localmodel.gateway.wire import parse_answer, parse_batch


class BrokenChannel:
    token = instance = "x"

    async def submit(self, *_: Any) -> None:
        raise ZeroDivisionError("a bug")


async def test_a_submit_that_fails_in_no_known_way_can_still_be_cancelled() -> None:
    ended: list[int] = []
    sequences = Sequences(BrokenChannel(), ended.append)  # type: ignore[arg-type]
    sequence = sequences.start((1,), Sampling(), 1.0, lambda: ended.append(1))
    sequences.abandon(sequence)
    await asyncio.wait_for(sequences.cancel_wanted.wait(), 5)
    assert sequences.cancellable() == (sequence.id,) and not ended
    for _ in range(2):
        sequences.confirmed([sequence.id])
    assert ended == [1] and len(sequences) == 0


@pytest.mark.parametrize(
    "batch",
    [
        "1", "{}", "[]", "[1, 0, false]", "[1e999, 0, false, []]", '["x", 0, false, []]', "[1, 0, false, [[1, 2]]]",
        '[1, 0, false, [[7, "a", 1, null, null, null]]]', '[1, 0, false, [["s1", null, 1, null, null, null]]]',
        '[1, 0, false, [["s1", "a", 1, "why not", null, null]]]', '[1, 0, false, [["s1", "a", 1, "stop", [1], null]]]',
        '[1, 0, false, [["s1", "a", 1, "stop", ["1", "2"], null]]]', "[1, 0, false, [], 5]", "[1, NaN, false, []]",
        "[1, 0, 0, []]", "[1.5, 0, false, []]", "[true, 0, false, []]", "[1, 0, false, [[]]]", "[1, 0, false, null]",
        '[1, 0, false, [["s1", "a", 1.5, null, null, null]]]', '[1, 0, false, [["s1", "a", true, null, null, null]]]',
        '[1, 0, false, [["s1", "a", 1, null, null, 5]]]', '[1, 0, false, [["s1", "\\ud800", 1, null, null, null]]]',
        '[1, 0, false, [["s1", "a", 1, null, null, null, [], 5]]]', "[1, 0, false, []] x", "[" * 100_000, "",
    ],
)  # fmt: skip
def test_no_batch(batch: str) -> None:
    with pytest.raises(BackendGarbage):
        parse_batch(json.dumps({RESPONSE: batch}).encode())


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b"null", b'{"RESPONSE": 5}', b'{"RESPONSE": "[1, 0, \xff', b"[" * 100_000])
def test_no_envelope(answer: bytes) -> None:
    for parse in (parse_batch, lambda body: parse_answer(Cancelled, body)):
        with pytest.raises(BackendGarbage):
            parse(answer)


def test_typed_answers() -> None:
    refusal = json.dumps({RESPONSE: '{"code": "stale_epoch", "message": "old"}'}).encode()
    for parse in (parse_batch, lambda body: parse_answer(Cancelled, body)):
        with pytest.raises(Refused, match="old"):
            parse(refusal)
        with pytest.raises(BackendGarbage):
            parse(json.dumps({RESPONSE: '{"code": "unheard of", "message": "old"}'}).encode())
        with pytest.raises(BackendGone):
            parse(b'{"error": "Stub process is not healthy."}')
    assert parse_answer(Cancelled, json.dumps({RESPONSE: '{"cancelled": ["s1"]}', "model_name": "llm"}).encode()).cancelled == (
        "s1",
    )
    with pytest.raises(BackendGarbage):
        parse_answer(Cancelled, json.dumps({RESPONSE: '{"cancelled": "s1"}'}).encode())
    huge = parse_batch(json.dumps({RESPONSE: f"[{10**30}, 0, false, []]"}).encode())
    assert huge.number == 10**30

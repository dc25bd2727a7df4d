"""What must hold of a sequence whatever happens to its submit, and of events that are none."""

import asyncio
import json
from typing import Any

import pytest

from localmodel.api.channel import RESPONSE, Sampling
from localmodel.gateway.channel import BackendGarbage
from localmodel.gateway.events import parse_batch
from localmodel.gateway.sequences import Sequences


class BrokenChannel:
    token = instance = "x"

    async def submit(self, request: Any, seconds: float) -> None:
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
        '[1, 0, false, [["s1", "a", 1, "stop", ["1", "2"], null]]]',
    ],
)  # fmt: skip
def test_no_batch(batch: str) -> None:
    with pytest.raises(BackendGarbage):
        parse_batch(json.dumps({RESPONSE: batch}).encode())

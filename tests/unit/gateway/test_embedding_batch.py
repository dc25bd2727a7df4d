"""A batch of texts that nobody waits for any more: it is called off until the engine has ended it."""

import asyncio
from collections.abc import Mapping
from time import monotonic

import pytest

from localmodel.api.channel import Embed, Embedded, Refusal
from localmodel.gateway import embedding_batch, errors
from localmodel.gateway.backend_errors import BackendSilent, BackendUnreachable, Refused
from localmodel.gateway.embedding_batch import EmbeddingBatch
from localmodel.gateway.timers import Limit


class Engine:
    token, instance = "t", "gateway"

    def __init__(self) -> None:
        self.asked: list[Embed] = []
        self.cancels: list[tuple[str, ...]] = []
        self.answer: asyncio.Future[Embedded] = asyncio.get_running_loop().create_future()
        self.obeys = 1
        """Which cancel is the first to be understood."""

    async def embed(self, request: Embed, seconds: float | None, trace: Mapping[str, str]) -> Embedded:
        assert seconds is None, "the engine would go on"
        self.asked.append(request)
        return await self.answer

    async def cancel(self, ids: tuple[str, ...], seconds: float) -> tuple[str, ...]:
        self.cancels.append(ids)
        if len(self.cancels) == 1 < self.obeys:
            raise BackendSilent("no answer in time")
        if len(self.cancels) >= self.obeys:
            self.answer.set_exception(Refused(Refusal(code="failed", message="the request was cancelled")))
        return ids


def limit(seconds: float) -> Limit:
    return Limit(monotonic() + seconds, "first_token_timeout", seconds)


async def test_a_late_batch_is_cancelled_until_the_engine_has_ended_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_batch, "_FIRST_PAUSE_SECONDS", 0.001)
    engine = Engine()
    engine.obeys = 3
    batch = EmbeddingBatch(engine, "e1", ((1, 2), (3,)), {})  # type: ignore[arg-type]
    with pytest.raises(errors.ApiError) as late:
        await batch.vectors(limit(0.01))
    assert (late.value.code, batch.ended, batch.tokens) == ("first_token_timeout", False, 3)
    await batch.call_off()
    assert batch.ended and engine.cancels == [("e1",)] * 3
    assert [(each.instance, each.id) for each in engine.asked] == [("gateway", "e1")]
    await batch.call_off()
    assert len(engine.cancels) == 3, "what has ended is not cancelled"


async def test_answers_and_failures() -> None:
    good = Embedded(vectors=("AA==",), dimensions=1)
    for given, code in (
        (good, None),
        (Embedded(vectors=(), dimensions=1), "upstream_protocol_error"),
        (BackendUnreachable("gone"), "upstream_error"),
        (Refused(Refusal(code="context_length_exceeded", message="too long")), "context_length_exceeded"),
    ):
        engine = Engine()
        batch = EmbeddingBatch(engine, "e1", ((1,),), {})  # type: ignore[arg-type]
        if isinstance(given, Exception):
            engine.answer.set_exception(given)
        else:
            engine.answer.set_result(given)
        if code is None:
            assert await batch.vectors(limit(5)) is good
        else:
            with pytest.raises(errors.ApiError) as failed:
                await batch.vectors(limit(5))
            assert failed.value.code == code
        assert batch.ended

"""Answers /v1/embeddings: tokenize, wait for a slot, ask the engine batch by batch, one body.

Whoever leaves or is late has the batch that is under way called off, and keeps its slot until the engine has ended that.
"""

import asyncio
import binascii
import itertools
import struct
from collections.abc import Callable, Sequence
from time import monotonic

from localmodel.api.engine_status import EngineStatus
from localmodel.gateway import errors
from localmodel.gateway.answers import send
from localmodel.gateway.channel import Channel
from localmodel.gateway.embedding_batch import EmbeddingBatch, TokenIds
from localmodel.gateway.exchange import Exchange
from localmodel.gateway.gate import Slot
from localmodel.gateway.lane import Lane, judge
from localmodel.gateway.openai_embeddings import EmbeddingCall, check_dimensions, check_lengths, embeddings_body
from localmodel.gateway.prompts import Prompts
from localmodel.gateway.request import Request
from localmodel.gateway.slots import Need
from localmodel.gateway.timers import Deadlines

BATCH = 64
"""Inputs in one request to the engine: what a client that leaves may cost, and little enough to write without a stall."""


class Embedder:
    def __init__(
        self, prompts: Prompts, lane: Lane, link: Channel, window: int, engine: Callable[[], EngineStatus | None]
    ) -> None:
        self._prompts = prompts
        self._lane = lane
        self._channel = link
        self._window = window
        self._engine = engine
        self._numbers = itertools.count(1)
        self._left: set[asyncio.Task[None]] = set()
        """Those that see to the end of a batch that nobody waits for."""

    async def answer(self, request: Request, exchange: Exchange, call: EmbeddingCall, deadlines: Deadlines) -> None:
        engine = self._engine()
        if engine is not None and engine.task != "Embedding":
            raise errors.wrong_task(engine.task, "/v1/chat/completions or /v1/completions")
        inputs = await self._encode(call, deadlines)
        check_lengths(inputs, self._window)
        tokens = sum(map(len, inputs))
        exchange.reserve(tokens)
        need = Need(size=exchange.hold_body())

        async def attempt(again: bool) -> list[str]:
            with exchange.waiting():
                return await self._run(exchange, deadlines, inputs, call, need, again=again)

        until = deadlines.queue(monotonic()).at
        vectors = await self._lane.resender.run(exchange, attempt, lambda: until)
        body = await _written(call, vectors, tokens)
        await send(request, exchange, 200, body, until=deadlines.total.at)
        exchange.close("ok")

    async def _encode(self, call: EmbeddingCall, deadlines: Deadlines) -> list[TokenIds]:
        texts = [each for each in call.inputs if isinstance(each, str)]
        encoded = iter(await self._prompts.encode_inputs_async(texts, deadlines.total) if texts else ())
        return [next(encoded) if isinstance(each, str) else each for each in call.inputs]

    async def _run(
        self,
        exchange: Exchange,
        deadlines: Deadlines,
        inputs: Sequence[TokenIds],
        call: EmbeddingCall,
        need: Need,
        *,
        again: bool,
    ) -> list[str]:
        if not again:
            self._lane.check_serving()
        slot, trial = await self._lane.enter(exchange, deadlines.queue(monotonic()), need, again=again)
        record = exchange.record
        record.prompt_tokens = None
        batch: EmbeddingBatch | None = None
        ok: bool | None = None
        began = monotonic()
        vectors: list[str] = []
        try:
            for start in range(0, len(inputs), BATCH):
                texts = tuple(inputs[start : start + BATCH])
                batch = EmbeddingBatch(self._channel, f"e{next(self._numbers)}", texts, exchange.trace_headers())
                embedded = await batch.vectors(deadlines.first_token(monotonic()))
                record.prompt_tokens = (record.prompt_tokens or 0) + batch.tokens
                if record.first_token_seconds is None:
                    record.first_token_seconds = monotonic() - began
                check_dimensions(call, embedded.dimensions)
                vectors += embedded.vectors
            ok = True
        except errors.ApiError as error:
            ok = judge(error)
            raise
        finally:
            self._lane.report(trial, ok)
            if batch is None or batch.ended:
                slot.release()
            else:
                record.prompt_tokens = (record.prompt_tokens or 0) + batch.tokens
                self._call_off(batch, slot)
        return vectors

    def _call_off(self, batch: EmbeddingBatch, slot: Slot) -> None:
        task = asyncio.create_task(batch.call_off())
        self._left.add(task)
        task.add_done_callback(self._left.discard)
        task.add_done_callback(lambda _: slot.release())


async def _written(call: EmbeddingCall, vectors: Sequence[str], tokens: int) -> bytes:
    """The body; other requests have their turn between the vectors."""
    body = bytearray()
    try:
        for number, part in enumerate(embeddings_body(call, vectors, tokens)):
            body += part
            if number % BATCH == BATCH - 1:
                await asyncio.sleep(0)
    except (binascii.Error, struct.error):
        raise errors.protocol("a vector that is no Base64 of float32") from None
    return bytes(body)

"""Composes an OpenAI answer, a stream or one body, from what the Runs of a request say.

The status line waits for the first text, so that until then a failure has its real status.
"""

import hashlib
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from localmodel import __version__
from localmodel.api.channel import Sampling
from localmodel.api.engine_status import EngineStatus
from localmodel.gateway import errors
from localmodel.gateway.answers import send
from localmodel.gateway.choices import ManyChoices, OneChoice, Source
from localmodel.gateway.exchange import Exchange
from localmodel.gateway.lane import Lane
from localmodel.gateway.long_input import LongInput
from localmodel.gateway.openai_answer import Chunks, Heading, whole_document
from localmodel.gateway.openai_choice import Choice, Whole
from localmodel.gateway.openai_request import Call, blamed, fit_window, sampling_of_choice
from localmodel.gateway.prompts import Prompts
from localmodel.gateway.reading_plan import most_tokens
from localmodel.gateway.request import Request
from localmodel.gateway.run import Run
from localmodel.gateway.segmented import Segmented
from localmodel.gateway.slots import need_of
from localmodel.gateway.streaming import StreamAnswer
from localmodel.gateway.timers import Deadlines
from localmodel.gateway.tool_calls import sampling_with_tools


@dataclass
class Generator:
    prompts: Prompts
    lane: Lane
    window: int
    long_input: LongInput
    engine: Callable[[], EngineStatus | None]
    """What the engine last said of itself; None before it has."""

    async def answer(self, request: Request, exchange: Exchange, call: Call, deadlines: Deadlines) -> None:
        self._check(call)
        prompt = await self.prompts.encode_async(call, deadlines.total)
        try:
            sampling = self._sampling(call, prompt)
        except errors.ApiError as refused:
            if not self.long_input.helps(call, refused):
                raise
            if self.long_input.mode == "Segment":
                await self._read_in_parts(request, exchange, call, deadlines, refused)
                return
            call, shorter = await self.long_input.shorten(call, refused, self._room, deadlines.total)
            exchange.tell_truncated(len(prompt) - len(shorter))
            prompt, sampling = shorter, self._sampling(call, shorter)
        self.lane.gate.check_together(need_of(len(prompt), sampling.max_tokens or 0), call.n)
        exchange.reserve(len(prompt) + call.n * (sampling.max_tokens or 0))
        if call.n == 1:
            with Run(self.lane, exchange, deadlines, prompt, sampling) as run:
                await self._compose(request, exchange, call, deadlines, OneChoice(run))
            return
        async with AsyncExitStack() as stack:
            source = ManyChoices(self._runs(stack, exchange, deadlines, prompt, sampling, call.n))
            await self._compose(request, exchange, call, deadlines, await stack.enter_async_context(source))

    async def _read_in_parts(
        self, request: Request, exchange: Exchange, call: Call, deadlines: Deadlines, refused: errors.ApiError
    ) -> None:
        reading = await self.long_input.cut(call, refused, self._room, deadlines.total)
        exchange.tell_segments(len(reading.segments))
        exchange.reserve(most_tokens(reading.sizes, len(reading.segments), call.n))
        async with AsyncExitStack() as stack:

            async def start_last(last: Call) -> Source:
                prompt = await self.prompts.encode_async(last)
                sampling = self._sampling(last, prompt)
                self.lane.gate.check_together(need_of(len(prompt), sampling.max_tokens or 0), last.n)
                runs = self._runs(stack, exchange, deadlines, prompt, sampling, last.n)
                return await stack.enter_async_context(ManyChoices(runs))

            source = Segmented(reading, self.prompts, self.lane, exchange, deadlines, start_last)
            await stack.enter_async_context(source)
            await self._compose(request, exchange, call, deadlines, source)

    @property
    def _room(self) -> int:
        """Tokens of one prompt and answer: the context window, or the engine's memory if that holds less."""
        return min(self.window, self.lane.gate.slots.token_limit or self.window)

    def _sampling(self, call: Call, prompt: tuple[int, ...]) -> Sampling:
        """Raises 400 if it does not fit."""
        return sampling_with_tools(call.tools, fit_window(call, len(prompt), self._room), self.prompts.tool_format)

    def _check(self, call: Call) -> None:
        engine = self.engine()
        if engine is not None and engine.task != "TextGeneration":
            raise errors.wrong_task(engine.task, "/v1/embeddings")
        slots = self.lane.gate.slots.slots
        if call.n > slots:
            raise errors.bad_request(f"'n' is {call.n}, but this server runs {slots} answers at a time. Ask for fewer.", "n")

    def _runs(
        self,
        stack: AsyncExitStack,
        exchange: Exchange,
        deadlines: Deadlines,
        prompt: tuple[int, ...],
        sampling: Sampling,
        choices: int,
    ) -> list[Run]:
        runs = [
            Run(self.lane, exchange, deadlines, prompt, sampling_of_choice(sampling, index), counts_prompt=index == 0)
            for index in range(choices)
        ]
        for run in runs:
            stack.enter_context(run)
        return runs

    async def _compose(self, request: Request, exchange: Exchange, call: Call, deadlines: Deadlines, source: Source) -> None:
        try:
            await self._answer_from(request, exchange, call, deadlines, source)
        except errors.ApiError as error:
            raise blamed(error, call) from None

    async def _answer_from(self, request: Request, exchange: Exchange, call: Call, deadlines: Deadlines, source: Source) -> None:
        pieces = await source.first()
        prefix = "chatcmpl" if call.endpoint == "chat" else "cmpl"
        answer_id = f"{prefix}-{exchange.record.request_id.removeprefix('req_')}"
        heading = Heading(answer_id, int(time.time()), self._fingerprint(exchange.record.model_version))
        choices = [Choice(call, self.prompts.tool_format, self.prompts.token_texts) for _ in range(call.n)]
        echo = self.prompts.prompt_text(call) if call.echo else ""
        if call.stream:
            chunks = Chunks(call, heading, choices, echo, exchange.more_usage)
            await StreamAnswer(request, exchange, chunks, deadlines).run(pieces, source)
            return
        wholes = [Whole(choice) for choice in choices]
        while True:
            for piece in pieces:
                wholes[piece.choice].add(piece)
            if source.finished:
                break
            pieces = await source.rest()
        document = whole_document(call, heading, wholes, source.usage, echo, exchange.more_usage)
        body = msgspec.json.encode(document)
        exchange.keep_document(body)
        await send(request, exchange, 200, body, until=deadlines.total.at)
        exchange.close("ok")

    def _fingerprint(self, model_version: str) -> str:
        """The same while the same seed gives the same text."""
        engine = self.engine()
        return _digest(model_version, *((engine.architecture, engine.parameters, engine.dtype, engine.device) if engine else ()))


@lru_cache(4)
def _digest(*parts: object) -> str:
    return f"fp_{hashlib.sha256(repr((__version__, *parts)).encode()).hexdigest()[:12]}"

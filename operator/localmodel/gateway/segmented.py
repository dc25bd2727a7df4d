"""Reads a long document in parts and joins the answers: the pieces of the last call are the answer.

Each part and each joining call is a Run with a slot and time limits of its own; at most half of the slots are used at once, so
that one document does not shut out everybody. One failed call ends the whole answer. It knows nothing of HTTP.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from types import TracebackType
from typing import Self

from localmodel.api.events import Usage
from localmodel.gateway import errors
from localmodel.gateway.choices import Source
from localmodel.gateway.exchange import Exchange
from localmodel.gateway.lane import Lane
from localmodel.gateway.long_input import Reading
from localmodel.gateway.openai_request import Call
from localmodel.gateway.pieces import Piece
from localmodel.gateway.prompts import Prompts
from localmodel.gateway.reading_plan import group, longest_answer
from localmodel.gateway.run import Run, Say
from localmodel.gateway.segments import keep_ends
from localmodel.gateway.timers import Deadlines

_LONGEST_PAUSE_SECONDS = 1.0


class Segmented:
    """Leaving the `async with` block gives up whatever still runs. `first` returns, without a piece, when any part has begun:
    from then on the engine is known to answer."""

    def __init__(
        self,
        reading: Reading,
        prompts: Prompts,
        lane: Lane,
        exchange: Exchange,
        deadlines: Deadlines,
        start_last: Callable[[Call], Awaitable[Source]],
    ) -> None:
        self._reading = reading
        self._prompts = prompts
        self._lane = lane
        self._exchange = exchange
        self._deadlines = deadlines
        self._start_last = start_last
        self._room = asyncio.Semaphore(max(1, lane.gate.slots.slots // 2))
        self._begun = asyncio.Event()
        self._task: asyncio.Task[Call] | None = None
        self._last: Source | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def finished(self) -> bool:
        return self._last is not None and self._last.finished

    @property
    def usage(self) -> Usage:
        """Of all calls together."""
        record = self._exchange.record
        return Usage(record.prompt_tokens or 0, record.completion_tokens)

    async def first(self) -> Sequence[Piece]:
        assert self._task is not None
        begun = asyncio.create_task(self._begun.wait())
        try:
            await asyncio.wait({begun, self._task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            begun.cancel()
        if self._task.done():
            self._task.result()
        return ()

    async def more(self, wake_at: float = float("inf"), say: Say | None = None) -> Sequence[Piece]:
        assert self._task is not None
        if self._last is None:
            await asyncio.wait({self._task}, timeout=None if wake_at == float("inf") else max(0.0, wake_at - monotonic()))
            if not self._task.done():
                return ()
            self._last = await self._start_last(self._task.result())
        return await self._last.more(wake_at, say)

    async def rest(self) -> Sequence[Piece]:
        return await self.more() if self._last is None else await self._last.rest()

    async def _read(self) -> Call:
        """All calls but the last, which is returned."""
        reading = self._reading
        answers = await self._ask_all([reading.part(number) for number in range(1, len(reading.segments) + 1)])
        while len(groups := group(await self._lengths(answers), reading.sizes.join)) > 1:
            alone = [answers[each.start] if each.stop - each.start == 1 else None for each in groups]
            calls = [
                reading.join(answers[each], last=False) for each, single in zip(groups, alone, strict=True) if single is None
            ]
            joined = iter(await self._ask_all(calls))
            answers = [next(joined) if single is None else single for single in alone]
        return reading.join(answers, last=True)

    async def _ask_all(self, calls: Sequence[Call]) -> list[str]:
        """In the order of the calls. The first failure ends the others."""
        try:
            async with asyncio.TaskGroup() as tasks:
                asked = [tasks.create_task(self._ask(call)) for call in calls]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return await self._shortened([task.result() for task in asked])

    async def _ask(self, call: Call) -> str:
        async with self._room:
            with self._exchange.waiting():
                prompt = await self._prompts.encode_async(call)
                return await self._outlast_overload(prompt, call)

    async def _outlast_overload(self, prompt: tuple[int, ...], call: Call) -> str:
        """A document that is being read already is not dropped because the queue is full for a moment."""
        limit = self._deadlines.queue(monotonic())
        while True:
            try:
                return await self._run(prompt, call)
            except errors.ApiError as error:
                if error.code != "server_is_overloaded" or not self._begun.is_set() or monotonic() >= limit.at:
                    raise
                pause = min(error.retry_after or _LONGEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause)

    async def _run(self, prompt: tuple[int, ...], call: Call) -> str:
        with Run(self._lane, self._exchange, self._deadlines, prompt, call.sampling) as run:
            texts = [await run.first()]
            self._begun.set()
            if not run.finish_reason:
                texts.append(await run.rest())
        return "".join(texts).strip()

    async def _lengths(self, answers: Sequence[str]) -> list[int]:
        return [len(tokens) for tokens in await self._prompts.encode_inputs_async(answers)]

    async def _shortened(self, answers: list[str]) -> list[str]:
        """A text may have more tokens than it was made of; two answers must fit into one call all the same."""
        longest = longest_answer(self._reading.sizes)
        for index, length in enumerate(await self._lengths(answers)):
            if length > longest:
                starts = await self._prompts.token_starts_async(answers[index])
                answers[index] = keep_ends(answers[index], starts, longest - 8)
        return answers

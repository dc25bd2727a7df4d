"""The choices of one answer: one Run each, read as one source of pieces.

Each choice has a slot of its own. All of a request's choices enter the queue at once and therefore stand in it one after the
other; a choice that gets no slot ends the whole answer. It knows nothing of HTTP, nor of what a text means.
"""

import asyncio
import logging
from collections.abc import Sequence
from time import monotonic
from types import TracebackType
from typing import Protocol, Self

from localmodel.api.events import Usage
from localmodel.gateway import errors
from localmodel.gateway.pieces import Piece
from localmodel.gateway.run import Run, Say

log = logging.getLogger("localmodel.gateway.choices")


class Source(Protocol):
    """Where the pieces of an answer come from."""

    @property
    def finished(self) -> bool:
        """Every choice has had its last piece."""
        ...

    @property
    def usage(self) -> Usage:
        """Of the whole answer, once it is finished; the prompt counts once."""
        ...

    async def first(self) -> Sequence[Piece]: ...

    async def more(self, wake_at: float = float("inf"), say: Say | None = None) -> Sequence[Piece]:
        """Empty pieces, or none, at `wake_at` (monotonic seconds). Raises ApiError.

        `say` may get texts of the only choice as soon as they come, instead of the caller, until it returns False."""
        ...

    async def rest(self) -> Sequence[Piece]:
        """Of an answer that is shown to nobody before its end: the next pieces, as many as can be waited for at once."""
        ...


class OneChoice:
    """The usual case, without a task of its own."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.finished = False

    @property
    def usage(self) -> Usage:
        return self._run.usage

    async def first(self) -> tuple[Piece]:
        return self._piece(await self._run.first())

    async def more(self, wake_at: float = float("inf"), say: Say | None = None) -> tuple[Piece]:
        return self._piece(await self._run.more(wake_at, say))

    async def rest(self) -> tuple[Piece]:
        return self._piece(await self._run.rest())

    def _piece(self, text: str) -> tuple[Piece]:
        run = self._run
        if run.finish_reason:
            self.finished = True
        return (Piece(0, text, run.logprobs, run.finish_reason),)


class ManyChoices:
    """Each Run is read by a task; leaving the `async with` block ends them all."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs
        self._open = len(runs)
        self._pieces: list[Piece] = []
        self._failure: errors.ApiError | None = None
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._read(index, run)) for index, run in enumerate(self._runs)]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def finished(self) -> bool:
        return self._open == 0 and not self._pieces

    @property
    def usage(self) -> Usage:
        return Usage(self._runs[0].usage.prompt_tokens, sum(run.usage.completion_tokens for run in self._runs))

    async def first(self) -> list[Piece]:
        """Returns as soon as one choice has text."""
        return await self.more()

    async def more(self, wake_at: float = float("inf"), say: Say | None = None) -> list[Piece]:
        if not self._pieces and self._failure is None:
            self._news.clear()
            try:
                async with asyncio.timeout(None if wake_at == float("inf") else wake_at - monotonic()):
                    await self._news.wait()
            except TimeoutError:
                return []
        pieces, self._pieces = self._pieces, []
        if not pieces and self._failure is not None:
            raise self._failure
        return pieces

    async def rest(self) -> list[Piece]:
        return await self.more()

    async def _read(self, index: int, run: Run) -> None:
        try:
            self._put(index, run, await run.first())
            while not run.finish_reason:
                self._put(index, run, await run.more())
        except errors.ApiError as error:
            self._failure = self._failure or error
        except Exception:
            log.exception("a choice failed")
            self._failure = self._failure or errors.internal()
        finally:
            self._news.set()

    def _put(self, index: int, run: Run, text: str) -> None:
        if run.finish_reason:
            self._open -= 1
        self._pieces.append(Piece(index, text, run.logprobs, run.finish_reason))
        self._news.set()

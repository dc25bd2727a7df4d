"""The one event stream: keeps it open, cuts it into batches and hands them on; resumes after a break by number.

It keeps the engine's silence, and says why a stream was cut. Whether silence means death is the supervisor's decision.
"""

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import Literal

import aiohttp

from localmodel.api.events import EventBatch
from localmodel.gateway import errors, sse
from localmodel.gateway.backend_errors import BackendError, BackendGarbage, BackendUnreachable, Refused
from localmodel.gateway.channel import Channel
from localmodel.gateway.sequences import Sequences
from localmodel.gateway.silence import Silence
from localmodel.gateway.wire import parse_batch

log = logging.getLogger("localmodel.gateway.events")

_PAUSE_SECONDS = 0.05
_GARBAGE_LIMIT = 3
"""Broken streams in a row after which the running requests are given up."""

CutReason = Literal["closed", "broken", "error", "protocol", "silent"]
"""Triton ended the stream, its connection broke, Triton or the engine reported an error, what came was not the channel's
language, or nothing came although the engine answers."""


class EventStream:
    def __init__(
        self,
        link: Channel,
        sequences: Sequences,
        on_cut: Callable[[CutReason], None] = lambda _: None,
        pause_seconds: float = _PAUSE_SECONDS,
    ) -> None:
        """`on_cut`: told of each end of an open stream that nobody wanted."""
        self._channel = link
        self._sequences = sequences
        self._on_cut = on_cut
        self._pause_seconds = pause_seconds
        self._number = 0
        self._garbage = 0
        self._resumed = False
        """No batch of this connection has been seen yet: its number may jump, the engine vouches for it."""
        self._reading: asyncio.Task[None] | None = None
        self._given_up = ""
        """Why this side drops the connection."""
        self._cut_at: float | None = None
        """Since when a stream that was open is not."""
        self.silence = Silence(monotonic())
        self.heard_at = float("-inf")
        """When the engine last spoke, on the monotonic clock."""
        self.step_age_seconds = 0.0
        self.failure = ""
        """The engine's last words, once it has said that it ends."""
        self.open = asyncio.Event()
        """Set while batches arrive: submits are possible."""

    async def run(self) -> None:
        """Until cancelled: read, and connect again with a new epoch and the last number seen."""
        try:
            while True:
                self._reading = asyncio.create_task(self._read())
                await asyncio.wait({self._reading})
                if not self._reading.cancelled():
                    self._reading.result()
        finally:
            if self._reading is not None:
                self._reading.cancel()
            self.open.clear()

    def forget(self) -> None:
        """The engine is a new one: its numbers start again, and it knows none of our sequences."""
        self._number = 0
        self._garbage = 0
        self._cut_at = None
        self.failure = ""
        self.silence.hear(monotonic())
        self._sequences.keep_only(set())

    def reconnect(self, why: str) -> None:
        """Drops a connection that seems dead while the engine is not."""
        self._given_up = why
        if self._reading is not None:
            self._reading.cancel()

    async def _read(self) -> None:
        epoch = self._sequences.epoch + 1
        self._sequences.epoch = epoch
        self._given_up = ""
        try:
            async with self._channel.events(epoch, self._number) as stream:
                await self._follow(stream)
            self._cut("closed", "Triton ended it")
        except asyncio.CancelledError:
            if self._given_up:
                self._cut("silent", self._given_up)
            raise
        except (BackendGarbage, sse.TooLong) as error:
            self._cut("protocol", str(error))
            self._garbage += 1
            if self._garbage >= _GARBAGE_LIMIT:
                self._sequences.fail_all(errors.protocol(str(error)))
        except BackendUnreachable as error:
            self._cut("broken", str(error))
        except (BackendError, Refused) as error:
            self._cut("error", str(error))
        await asyncio.sleep(self._pause_seconds)

    def _cut(self, reason: CutReason, why: str) -> None:
        """Attempts that fail before anything came are no cuts."""
        if not self.open.is_set():
            return
        self.open.clear()
        self._cut_at = monotonic()
        self._on_cut(reason)
        log.warning(
            "event stream %d cut (%s) after event %d, %d sequences running: %s",
            self._sequences.epoch, reason, self._number, len(self._sequences), why,
        )  # fmt: skip

    async def _follow(self, stream: aiohttp.StreamReader) -> None:
        decoder = sse.Decoder()
        self._resumed = True
        while chunk := await stream.readany():
            for payload in decoder.feed(chunk):
                self._apply(parse_batch(payload))

    def _apply(self, batch: EventBatch) -> None:
        self.heard_at = monotonic()
        self.silence.hear(self.heard_at)
        self.step_age_seconds = batch.step_age_seconds
        if batch.lost:
            known = len(self._sequences)
            self._sequences.keep_only({event.id for event in batch.events})
            gone = known - len(self._sequences)
            log.warning("the engine did not keep what came after event %d; %d sequences are lost", self._number, gone)
        elif batch.events and batch.number <= self._number:
            return
        elif not self._resumed and batch.number != self._number + bool(batch.events):
            raise BackendGarbage(f"{'event' if batch.events else 'heartbeat'} {batch.number} after event {self._number}")
        self._resumed = False
        self._number = batch.number
        self._sequences.apply(batch.events)
        self.failure = batch.failure
        if batch.events:
            self._garbage = 0
        self.open.set()
        if self._cut_at is not None:
            log.info("event stream is back after %.2f s at event %d", monotonic() - self._cut_at, self._number)
            self._cut_at = None

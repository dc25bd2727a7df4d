"""The one event stream: keeps it open, cuts it into batches and hands them on; resumes after a break by number.

It says when it last heard the engine. Whether silence means death is the supervisor's decision.
"""

import asyncio
from time import monotonic

import aiohttp

from localmodel.api import channel
from localmodel.gateway import errors, sse
from localmodel.gateway.backend_errors import BackendError, BackendGarbage, BackendUnreachable, Refused
from localmodel.gateway.channel import Channel
from localmodel.gateway.sequences import Sequences
from localmodel.gateway.wire import parse_batch

_PAUSE_SECONDS = 0.05
_GARBAGE_LIMIT = 3
"""Broken streams in a row after which the running requests are given up."""


class EventStream:
    def __init__(self, link: Channel, sequences: Sequences, pause_seconds: float = _PAUSE_SECONDS) -> None:
        self._channel = link
        self._sequences = sequences
        self._pause_seconds = pause_seconds
        self._number = 0
        self._garbage = 0
        self._resumed = False
        """No batch of this connection has been seen yet: its number may jump, the engine vouches for it."""
        self._reading: asyncio.Task[None] | None = None
        self.heard_at = monotonic()
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
            self.reconnect()
            self.open.clear()

    def forget(self) -> None:
        """The engine is a new one: its numbers start again, and it knows none of our sequences."""
        self._number = 0
        self._garbage = 0
        self.failure = ""
        self._sequences.keep_only(set())

    def reconnect(self) -> None:
        """Drops a connection that seems dead while the engine is not."""
        if self._reading is not None:
            self._reading.cancel()

    async def _read(self) -> None:
        epoch = self._sequences.epoch + 1
        self._sequences.epoch = epoch
        try:
            async with self._channel.events(epoch, self._number) as stream:
                await self._follow(stream)
        except (BackendGarbage, sse.TooLong) as error:
            self._garbage += 1
            if self._garbage >= _GARBAGE_LIMIT:
                self._sequences.fail_all(errors.protocol(str(error)))
        except (BackendError, BackendUnreachable, Refused):
            pass
        finally:
            self.open.clear()
        await asyncio.sleep(self._pause_seconds)

    async def _follow(self, stream: aiohttp.StreamReader) -> None:
        decoder = sse.Decoder()
        self._resumed = True
        while chunk := await stream.readany():
            for payload in decoder.feed(chunk):
                self._apply(parse_batch(payload))

    def _apply(self, batch: channel.EventBatch) -> None:
        self.heard_at = monotonic()
        self.step_age_seconds = batch.step_age_seconds
        if batch.lost:
            self._sequences.keep_only({event.id for event in batch.events})
        elif batch.events and batch.number <= self._number:
            return
        elif batch.number > self._number + 1 and not self._resumed:
            raise BackendGarbage(f"event {batch.number} after event {self._number}")
        self._resumed = False
        self._number = batch.number
        self._sequences.apply(batch.events)
        self.failure = batch.failure
        if batch.events:
            self._garbage = 0
        self.open.set()

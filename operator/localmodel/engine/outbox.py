"""What one gateway is to hear: numbered batches, and enough of the past to hear it again after a cut.

Why it exists: a gateway that comes back with the last number it saw must miss nothing. The past is kept as bytes: Python's
collector would stop all threads to look at so many tuples. Pure: no clock, no sending.
"""

from collections import deque
from typing import NamedTuple

import msgspec

from localmodel.api.events import EventBatch, SequenceEvent
from localmodel.engine.answer import merge_events

KEPT_EVENTS = 65_536
"""At 64 sequences and the shortest gap between batches, two seconds: as long as a gateway may be away. 13 MiB at most, where each
batch has one; one stream fills it in minutes."""
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[SequenceEvent, ...]).decode


class Past(NamedTuple):
    number: int
    count: int
    events: bytes


class Outbox:
    def __init__(self, kept_events: int = KEPT_EVENTS) -> None:
        self.number = 0
        """Of the last batch made."""
        self._pending: dict[str, SequenceEvent] = {}
        self._past: deque[Past] = deque()
        self._past_events = 0
        self._kept_events = kept_events

    @property
    def pending(self) -> bool:
        return bool(self._pending)

    def add(self, event: SequenceEvent) -> None:
        first = self._pending.setdefault(event.id, event)
        if first is not event:
            self._pending[event.id] = merge_events(first, event)

    def make_batch(self) -> EventBatch | None:
        """Everything added since the last batch, numbered; None if nothing was."""
        if not self._pending:
            return None
        self.number += 1
        batch = EventBatch(self.number, 0.0, False, tuple(self._pending.values()))
        self._pending.clear()
        self._past.append(Past(batch.number, len(batch.events), _pack(batch.events)))
        self._past_events += len(batch.events)
        while self._past_events > self._kept_events and len(self._past) > 1:
            self._past_events -= self._past.popleft().count
        return batch

    def after(self, number: int) -> EventBatch | None:
        """All that came after batch `number` as one batch with the last number; None if some of it is gone or never was."""
        self.make_batch()
        if number == self.number:
            return EventBatch(self.number, 0.0, False, ())
        oldest = self._past[0].number if self._past else self.number + 1
        if not oldest - 1 <= number < self.number:
            return None
        merged: dict[str, SequenceEvent] = {}
        for batch in self._past:
            if batch.number > number:
                for event in _unpack(batch.events):
                    merged[event.id] = merge_events(merged[event.id], event) if event.id in merged else event
        return EventBatch(self.number, 0.0, False, tuple(merged.values()))

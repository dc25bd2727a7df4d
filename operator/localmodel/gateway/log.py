"""Takes the record of every request and hands it to the sinks as bytes, without ever making a request wait.

A thread of its own redacts, which is the last thing before bytes: nobody else sees what it writes. What does not fit into the
bounded buffer before it is lost for every sink, and counted.
"""

import logging
import threading
from collections import deque
from collections.abc import Sequence
from time import monotonic, sleep

from localmodel.gateway.bodies import KEPT_BYTES
from localmodel.gateway.kept_answer import Kept
from localmodel.gateway.record import Record, encode, snapshot
from localmodel.gateway.redact import Redactor
from localmodel.gateway.shown_bodies import Exchanged, show_all
from localmodel.gateway.sinks import Sink

log = logging.getLogger("localmodel.gateway.log")

_BUFFER_BYTES = 4 * KEPT_BYTES
_RECORD_BYTES = 2048
_GATHER_SECONDS, _GATHERED = 0.25, 256
"""So long, or until there are so many, records are collected before the thread takes the processor from the requests: waking two
threads for one record costs more than the record, and a thread that runs seldom finds its caches cold."""
_BATCH, _BATCH_BYTES = 64, 1024 * 1024
"""Records that are searched together, and the bytes after which no more are taken."""

_Entry = tuple[Record, bytes, Kept | None, int]
"""Of one request; its body and its answer, in mode Full; bytes of memory, about."""


class RecordLog:
    def __init__(self, sinks: Sequence[Sink] = (), redactor: Redactor | None = None, buffer_bytes: int = _BUFFER_BYTES) -> None:
        """Without sinks nothing is written. `redactor`: mode Full, with bodies."""
        self._sinks = tuple(sinks)
        self._redactor = redactor
        self._limit = buffer_bytes
        self._entries: deque[_Entry] = deque()
        self._size = 0
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="request-log", daemon=True)
        if self._sinks:
            self._thread.start()

    @property
    def lost(self) -> dict[str, int]:
        """Records that were not written, by sink."""
        return {sink.name: sink.lost for sink in self._sinks}

    def put(self, record: Record, request: bytes = b"", answer: Kept | None = None) -> None:
        """The bodies only in mode Full. The record is copied: who has it may go on counting."""
        if not self._sinks:
            return
        size = _RECORD_BYTES + len(request) + (answer.size if answer is not None else 0)
        with self._changed:
            if not self._closing and self._size + size <= self._limit:
                self._entries.append((snapshot(record), request, answer, size))
                self._size += size
                if len(self._entries) == 1 or self._is_much():
                    self._changed.notify()
                return
        for sink in self._sinks:
            sink.miss()

    def close(self, seconds: float = 5.0) -> None:
        """Writes what is buffered, for at most so long; the rest counts as lost."""
        if not self._sinks:
            return
        limit = monotonic() + seconds
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)
        with self._changed:
            left = len(self._entries)
            self._entries.clear()
        for sink in self._sinks:
            for _ in range(left):
                sink.miss()
        left_seconds = max(0.1, limit - monotonic())
        closers = [threading.Thread(target=sink.close, args=(left_seconds,)) for sink in self._sinks]
        for closer in closers:
            closer.start()
        for closer in closers:
            closer.join()
        if any(self.lost.values()):
            log.error("request records that were not written: %s", self.lost)

    def _is_much(self) -> bool:
        return len(self._entries) >= _GATHERED or self._size > self._limit // 8 or self._closing

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._entries or self._closing)
                self._changed.wait_for(self._is_much, _GATHER_SECONDS)
                closing, gathered = self._closing, len(self._entries)
            while (closing or gathered > 0) and (batch := self._next()):
                gathered -= len(batch)
                lines = self._encode(batch)
                sleep(0)  # the requests' thread first
                for sink in self._sinks:
                    sink.put(lines)
            if closing:
                return

    def _next(self) -> list[_Entry]:
        batch: list[_Entry] = []
        size = 0
        with self._changed:
            while self._entries and len(batch) < _BATCH and size < _BATCH_BYTES:
                batch.append(self._entries.popleft())
                size += batch[-1][3]
            self._size -= size
        return batch

    def _encode(self, batch: Sequence[_Entry]) -> list[tuple[bytes, str]]:
        """Lines with their outcomes."""
        if self._redactor is None:
            return [(encode(record), record.outcome) for record, *_ in batch]
        exchanged = [
            Exchanged(record.request_id, body, record.code == "invalid_json", answer) for record, body, answer, _ in batch
        ]
        shown = show_all(exchanged, self._redactor)
        return [(encode(entry[0], bodies), entry[0].outcome) for entry, bodies in zip(batch, shown, strict=True)]

"""Takes the record of every request and hands it to the sinks as bytes, without ever making a request wait.

A thread of its own redacts, which is the last thing before bytes: nobody else sees what it writes. What does not fit into the
bounded buffer before it is lost for every sink, and counted.
"""

import logging
import threading
from collections import deque
from collections.abc import Sequence
from time import monotonic, sleep
from typing import NamedTuple

from localmodel.gateway.bodies import KEPT_BYTES, Withheld, show
from localmodel.gateway.kept_answer import Kept
from localmodel.gateway.record import Bodies, Record, Snapshot, encode, snapshot
from localmodel.gateway.redact import Redactor
from localmodel.gateway.sinks import Sink

log = logging.getLogger("localmodel.gateway.log")

_BUFFER_BYTES = 4 * KEPT_BYTES
_RECORD_BYTES = 2048
_GATHER_SECONDS = 0.1
"""So long records are collected before the thread takes the processor from the requests: waking two threads for one record
costs more than the record."""
_TURN_SECONDS = 0.001
"""So long the thread keeps the processor: giving it up after each record costs more than the record."""
_BATCH, _BATCH_BYTES = 64, 1024 * 1024
"""Records that go to the sinks together, and the bytes after which no more are taken."""
_TOO_LARGE = f"it is larger than {KEPT_BYTES} bytes"


class _Entry(NamedTuple):
    record: Snapshot
    request_id: str
    outcome: str
    code: str | None
    request: bytes
    answer: Kept | None
    size: int


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
                self._entries.append(
                    _Entry(snapshot(record), record.request_id, record.outcome, record.code, request, answer, size)
                )
                self._size += size
                if len(self._entries) == 1:
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

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._entries and not self._closing:
                    self._changed.wait()
                closing = self._closing
            if not closing:
                sleep(_GATHER_SECONDS)
            while batch := self._next():
                lines = []
                began = monotonic()
                for entry in batch:
                    lines.append((self._encode(entry), entry.outcome))
                    if monotonic() - began > _TURN_SECONDS:
                        sleep(0)  # the requests' thread first
                        began = monotonic()
                for sink in self._sinks:
                    sink.put(lines)
                sleep(0)
            if closing:
                return

    def _next(self) -> list[_Entry]:
        batch: list[_Entry] = []
        size = 0
        with self._changed:
            while self._entries and len(batch) < _BATCH and size < _BATCH_BYTES:
                batch.append(self._entries.popleft())
                size += batch[-1].size
            self._size -= size
        return batch

    def _encode(self, entry: _Entry) -> bytes:
        if self._redactor is None:
            return encode(entry.record)
        bodies = Bodies()
        try:
            self._show(entry, self._redactor, bodies)
        except Withheld as reason:
            bodies.withheld = str(reason)
        except Exception:  # whatever it was: the request is recorded, and nothing is shown that was not searched
            log.exception("the bodies of request %s can't be logged", entry.request_id)
            bodies.withheld = "redaction failed"
        return encode(entry.record, bodies)

    def _show(self, entry: _Entry, redactor: Redactor, bodies: Bodies) -> None:
        request = show(entry.request, redactor, as_text=entry.code == "invalid_json")
        bodies.request_body, bodies.request_body_cut = request
        if entry.answer is None:
            return
        if entry.answer.too_large:
            raise Withheld(_TOO_LARGE)
        bodies.response_body, bodies.response_body_cut = show(entry.answer.content(), redactor)

"""Where log lines go: each sink has its own thread, its own bounded buffer and its own hash chain.

Nothing here makes a caller wait. What does not fit, or can't be written, is lost, counted, and said in the chain at its place;
the chain itself has no gap, so that a gap in a log is somebody's doing.
"""

import logging
import secrets
import threading
from collections import Counter, deque
from collections.abc import Iterable
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Literal, NamedTuple, Protocol

from localmodel.gateway.chain import Chain
from localmodel.gateway.record import encode_document

log = logging.getLogger("localmodel.gateway.log")

_BUFFER_BYTES = 8 * 1024 * 1024
_BATCH_BYTES = 64 * 1024
_LINE_OVERHEAD = 300
CHECKPOINT_RECORDS = 1000
CHECKPOINT_SECONDS = 60.0
_RETRY_SECONDS = 1.0


class Target(Protocol):
    """Writes whole lines in order, or raises OSError and has written none that counts."""

    gone: bool
    """It will never take anything again."""

    def open(self) -> dict[str, Any]:
        """Called before the first line; may be called again if it raised OSError. What the first record says of it."""

    def make_room(self, size: int) -> dict[str, Any] | None:
        """Before about so many bytes are written: what to say as the first of a new file, if one begins."""

    def write(self, data: bytes) -> None: ...


class _Item(NamedTuple):
    """A record with its outcome, or a number of lost ones."""

    content: bytes
    outcome: str
    lost: int = 0


SinkName = Literal["stdout", "file"]


class Sink:
    def __init__(
        self, name: SinkName, target: Target, about: dict[str, Any], key: bytes = b"", buffer_bytes: int = _BUFFER_BYTES
    ) -> None:
        """`about`: what the first line says of the process."""
        self.name = name
        self.lost = 0
        """Records that were not written."""
        self._target = target
        self._chain = Chain(secrets.token_hex(8), key)
        self._about = about
        self._limit = buffer_bytes
        self._items: deque[_Item] = deque()
        self._size = 0
        self._missed = 0
        """Lost since the last item of the buffer."""
        self._unsaid = 0
        """Lost, and not yet in the chain."""
        self._written: Counter[str] = Counter()
        self._unsealed = 0
        """Records since the last checkpoint."""
        self._unsealed_since = 0.0
        self._opened = False
        self._failing = False
        self._retry_at = 0.0
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"log-{name}", daemon=True)
        self._thread.start()

    def put(self, records: Iterable[tuple[bytes, str]]) -> None:
        """Contents with their outcomes."""
        with self._changed:
            for content, outcome in records:
                if self._closing or self._target.gone or self._size + len(content) > self._limit:
                    self._miss()
                    continue
                self._items += self._say_missed()
                self._items.append(_Item(content, outcome))
                self._size += len(content)
            self._changed.notify()

    def _say_missed(self) -> list[_Item]:
        missed, self._missed = self._missed, 0
        return [_Item(b"", "", missed)] if missed else []

    def miss(self) -> None:
        """A record that got lost before it came here."""
        with self._changed:
            self._miss()

    def _miss(self) -> None:
        self.lost += 1
        self._missed += 1

    def close(self, seconds: float) -> None:
        """Writes what is buffered and the last record, for at most so long; the rest counts as lost."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)
        with self._changed:
            self.lost += sum(not item.lost for item in self._items)
            self._items.clear()

    def _run(self) -> None:
        self._write([], last=False)
        last = False
        while not last:
            batch, last = self._next_batch()
            self._write(batch, last=last)

    def _next_batch(self) -> tuple[list[_Item], bool]:
        """Returns without items when it is time for a checkpoint, or for the last record."""
        with self._changed:
            while not self._items and not self._closing and not self._checkpoint_due():
                self._changed.wait(self._unsealed_since + CHECKPOINT_SECONDS - monotonic() if self._unsealed else None)
            batch: list[_Item] = []
            size = 0
            while self._items and size < _BATCH_BYTES:
                batch.append(self._items.popleft())
                size += len(batch[-1].content)
            self._size -= size
            last = self._closing and not self._items
            return batch + (self._say_missed() if last else []), last

    def _checkpoint_due(self) -> bool:
        return self._unsealed > 0 and monotonic() - self._unsealed_since >= CHECKPOINT_SECONDS

    def _write(self, batch: list[_Item], *, last: bool) -> None:
        if monotonic() < self._retry_at and not last:
            self._give_up(batch)
            return
        before, written = self._chain.head, self._written.copy()
        try:
            self._try_write(batch, last)
        except OSError as error:
            self._chain.rewind(before)
            self._written = written
            self._retry_at = monotonic() + _RETRY_SECONDS
            if not self._failing:
                log.error("request log %s: %s; records are lost until it works again", self.name, error)
            self._failing = True
            self._give_up(batch)
        else:
            if self._failing:
                log.warning("request log %s works again; %d records were lost so far", self.name, self.lost)
            self._failing = False

    def _give_up(self, batch: list[_Item]) -> None:
        records = sum(not item.lost for item in batch)
        self._unsaid += records + sum(item.lost for item in batch)
        with self._changed:
            self.lost += records

    def _try_write(self, batch: list[_Item], last: bool) -> None:
        lines: list[bytes] = []
        if not self._opened:
            lines.append(self._line("start", **self._about, sink=self.name, **self._target.open()))
        elif begun := self._target.make_room(sum(len(item.content) + _LINE_OVERHEAD for item in batch) + 2 * _LINE_OVERHEAD):
            lines.append(self._line("rotated", **begun))
        if self._unsaid:
            lines.append(self._line("lost", count=self._unsaid))
        for item in batch:
            lines.append(self._line("lost", count=item.lost) if item.lost else self._chain.append(item.content))
            self._written[item.outcome] += not item.lost
        unsealed = self._unsealed + len(batch)
        if last:
            lines.append(self._line("end", **self._totals()))
        elif unsealed >= CHECKPOINT_RECORDS or self._checkpoint_due():
            lines.append(self._line("checkpoint", **self._totals()))
            unsealed = 0
        if lines:
            self._target.write(b"".join(lines))
        self._opened = True
        self._unsaid = 0
        if unsealed and not self._unsealed:
            self._unsealed_since = monotonic()
        self._unsealed = unsealed

    def _totals(self) -> dict[str, Any]:
        return {"records": self._written.total(), "outcomes": dict(+self._written), "lost": self.lost}

    def _line(self, kind: str, **fields: Any) -> bytes:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return self._chain.append(encode_document({"kind": kind, "time": now, **fields}))

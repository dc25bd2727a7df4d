"""Writes request records to a file descriptor without ever making a request wait.

A thread writes; what does not fit into the bounded buffer while the reader is stalled is lost and counted.
"""

import os
import threading
from collections import deque
from time import monotonic

_BUFFER_BYTES = 8 * 1024 * 1024
_BATCH_BYTES = 64 * 1024


class RecordLog:
    def __init__(self, descriptor: int = 1, buffer_bytes: int = _BUFFER_BYTES) -> None:
        self._descriptor = descriptor
        self._limit = buffer_bytes
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._changed = threading.Condition()
        self._closing = False
        self._broken = False
        self.lost = 0
        """Records that were not written."""
        self._writer = threading.Thread(target=self._write, name="request-log", daemon=True)
        self._writer.start()

    def put(self, line: bytes) -> None:
        with self._changed:
            if self._broken or self._closing or self._size + len(line) > self._limit:
                self.lost += 1
                return
            self._lines.append(line)
            self._size += len(line)
            self._changed.notify()

    def close(self, timeout: float = 5.0) -> None:
        """Writes what is buffered, for at most so long; the rest counts as lost."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._writer.join(timeout)
        with self._changed:
            self.lost += len(self._lines)
            self._lines.clear()

    def _write(self) -> None:
        while batch := self._next_batch():
            data = memoryview(b"".join(batch))
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                self._wait_writable(data)
            except OSError:
                with self._changed:
                    self._broken = True
                    self.lost += len(batch) + len(self._lines)
                    self._lines.clear()
                return

    def _wait_writable(self, data: memoryview) -> None:
        """Somebody made the descriptor non-blocking: keep the order and try on."""
        began = monotonic()
        while data and not (self._closing and monotonic() - began > 1.0):
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                threading.Event().wait(0.01)

    def _next_batch(self) -> list[bytes]:
        with self._changed:
            while not self._lines and not self._closing:
                self._changed.wait()
            batch: list[bytes] = []
            size = 0
            while self._lines and size < _BATCH_BYTES:
                line = self._lines.popleft()
                size += len(line)
                batch.append(line)
            self._size -= size
            return batch

"""How the first rank and one other talk beside the card: a socket for messages, and a few shared numbers for signs of life.

Why it exists: both ends must agree on it, and neither needs the other's code. A message is bytes of whatever meaning. The
socket's end is the news that the other side is gone, however it went.
"""

import mmap
import os
import select
import socket
import struct
import threading
import time
from typing import NamedTuple

_LENGTH = struct.Struct("<I")
_SIGNS = struct.Struct("<dq")
BEAT_SECONDS = 0.5


class Gone(Exception):
    """The other side has closed its end."""


class Link:
    """Messages in both directions; one thread may send while another receives."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def fileno(self) -> int:
        return self._connection.fileno()

    def send(self, message: bytes) -> None:
        """Raises Gone."""
        try:
            self._connection.sendall(_LENGTH.pack(len(message)) + message)
        except OSError as error:
            raise Gone from error

    def receive(self, seconds: float | None = None) -> bytes:
        """Waits for a whole message. Raises Gone, or TimeoutError if none has begun after `seconds`."""
        if seconds is not None and not select.select([self._connection], [], [], seconds)[0]:
            raise TimeoutError
        return self._take(_LENGTH.unpack(self._take(_LENGTH.size))[0])

    def close(self) -> None:
        self._connection.close()

    def _take(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            try:
                part = self._connection.recv(count - len(parts))
            except OSError as error:
                raise Gone from error
            if not part:
                raise Gone
            parts += part
        return bytes(parts)


class Sign(NamedTuple):
    seen: float
    """When the rank last showed that it lives, on the machine's monotonic clock."""
    steps: int
    """That it has computed."""


class SignsOfLife:
    """Memory that both sides map; a write costs no system call."""

    def __init__(self, file: int) -> None:
        """`file`: a descriptor made by `make_file`."""
        self._memory = mmap.mmap(file, _SIGNS.size)
        self._steps = 0

    @staticmethod
    def make_file() -> int:
        file = os.memfd_create("signs-of-life")
        os.truncate(file, _SIGNS.size)
        return file

    def read(self) -> Sign:
        return Sign(*_SIGNS.unpack_from(self._memory))

    def count_step(self) -> None:
        self._steps += 1
        self.show()

    def show(self) -> None:
        _SIGNS.pack_into(self._memory, 0, time.monotonic(), self._steps)

    def keep_showing(self) -> None:
        """From now on, from a thread of its own."""
        threading.Thread(target=self._beat, name="signs-of-life", daemon=True).start()

    def _beat(self) -> None:
        while True:
            self.show()
            time.sleep(BEAT_SECONDS)

"""What was sent to a client, kept for the log in mode Full: bytes of one body, or the events of a stream put together."""

from typing import Any

from localmodel.gateway.bodies import KEPT_BYTES
from localmodel.gateway.stream_fold import StreamFold

_EVENT = b"data:"


class KeptAnswer:
    def __init__(self) -> None:
        self.size = 0
        """Bytes of memory, about."""
        self.too_large = False
        """Nothing is kept any more: a part can't be redacted."""
        self._parts: list[bytes] = []
        self._fold: StreamFold | None = None

    def add(self, data: bytes) -> None:
        if self.too_large:
            return
        if self._parts and self.size < len(_EVENT):
            data = self._parts.pop() + data
            self.size = 0
        if not self.size and data.startswith((_EVENT, b":")):
            self._fold = StreamFold()
        self.size += len(data)
        if self.size > KEPT_BYTES:
            self.too_large = True
            self._parts, self._fold = [], None
        elif self._fold is not None:
            self._fold.feed(data)
        else:
            self._parts.append(data)

    def content(self) -> bytes | Any:
        """Bytes, or the document that a stream amounts to."""
        return self._fold.document() if self._fold is not None else b"".join(self._parts)

"""Server-sent events as bytes, both ways: what Triton sends us is cut, what clients get is framed.

Pure and incremental: the same bytes give the same payloads however they were cut, a character split over two reads
included, because nothing is decoded here.
"""

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"


class TooLong(ValueError):
    """One event is larger than the reader's limit."""


class Decoder:
    """Cuts a byte stream into the payloads of its `data:` fields."""

    def __init__(self, limit: int = 16 * 1024 * 1024) -> None:
        self._limit = limit
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Payloads of the events that this chunk completed."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        payloads = []
        for raw in lines:
            line = raw.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
                self._size += len(line)
            elif not line and self._data:
                payloads.append(b"\n".join(self._data))
                self._data = []
                self._size = 0
        if self._size + len(self._rest) > self._limit:
            raise TooLong(f"an event of more than {self._limit} bytes")
        return payloads


def frame(payload: bytes) -> bytes:
    """One event; the payload must hold no line break, as JSON written by json.dumps does not."""
    return b"data: " + payload + b"\n\n"

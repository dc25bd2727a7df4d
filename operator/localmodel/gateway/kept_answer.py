"""What was sent to a client, kept for the log in mode Full: what an answer of ours was made of, which is the cheapest, else its
bytes, or the events of a stream put together."""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Protocol

from localmodel.api.events import Usage
from localmodel.gateway.bodies import KEPT_BYTES, OwnDocument
from localmodel.gateway.body_texts import dump_bytes
from localmodel.gateway.pieces import Piece
from localmodel.gateway.stream_fold import StreamFold

_EVENT = b"data:"
_PIECE_BYTES = 200
_TEXT, _LOGPROBS = attrgetter("text"), attrgetter("logprobs")
_COUNT_PIECES = 256
"""So many are looked at together: one at a time costs as much as sending it."""


Describe = Callable[[Sequence[Piece], Usage | None], dict[str, Any]]


class Kept(Protocol):
    """What the log's thread asks."""

    @property
    def size(self) -> int:
        """Bytes of memory, about."""

    @property
    def too_large(self) -> bool:
        """Nothing is kept any more: a part can't be redacted."""

    def content(self) -> bytes | Any | OwnDocument:
        """Bytes, or the document that a stream of others amounts to."""


class KeptDocument:
    """An answer in one piece of ours."""

    too_large = False

    def __init__(self, data: bytes) -> None:
        """`data`: JSON of an object."""
        self.size = len(data)
        self._data = data

    def content(self) -> OwnDocument:
        return OwnDocument(self._data)


class KeptPieces:
    def __init__(self, describe: Describe) -> None:
        """`describe` is called in the log's thread."""
        self.usage: Usage | None = None
        """Once all is sent."""
        self.error: dict[str, object] = {}
        """The document that ended the stream instead."""
        self._describe = describe
        self._pieces: list[Piece] = []
        self._said: list[str] = []
        """Texts of the only choice, behind the pieces."""
        self._counted = 0
        """Pieces in `_size`."""
        self._size = 0

    @property
    def size(self) -> int:
        self._join()
        new = self._pieces[self._counted :]
        self._counted = len(self._pieces)
        self._size += _PIECE_BYTES * (len(new) + sum(map(len, map(_LOGPROBS, new)))) + 4 * sum(map(len, map(_TEXT, new)))
        return self._size

    @property
    def too_large(self) -> bool:
        return self.size > KEPT_BYTES

    def say(self, text: str) -> None:
        """Most of a stream of one plain choice: as little as can be for each."""
        self._said.append(text)
        if len(self._said) >= _COUNT_PIECES:
            self._drop_if_too_large()

    def add(self, pieces: Sequence[Piece]) -> None:
        self._join()
        self._pieces.extend(pieces)
        if len(self._pieces) - self._counted >= _COUNT_PIECES:
            self._drop_if_too_large()

    def content(self) -> OwnDocument:
        self._join()
        return OwnDocument(dump_bytes({**self._describe(self._pieces, self.usage), **self.error}))

    def _join(self) -> None:
        if self._said:
            self._pieces.append(Piece(0, "".join(self._said)))
            self._said = []

    def _drop_if_too_large(self) -> None:
        if self.too_large:
            self._pieces, self._counted = [], 0


class KeptAnswer:
    def __init__(self) -> None:
        self.size = 0
        self.too_large = False
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
        return self._fold.document() if self._fold is not None else b"".join(self._parts)

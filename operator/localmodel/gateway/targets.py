"""What a sink writes to: a file descriptor such as standard output, or a directory of files that are kept to a size.

Called by one thread, which they may block. A write that fails halfway is taken back or fenced off, so that no later line joins
half a line.
"""

import contextlib
import errno
import os
import re
from dataclasses import asdict
from pathlib import Path
from time import sleep
from typing import Any

from localmodel.gateway.chain import Head, read_line

_NAME = re.compile(r"requests-([0-9]{6,})\.log")
_TAIL_BYTES = 4 * 1024 * 1024
_PAUSE_SECONDS = 0.01
_NEVER_AGAIN = (errno.EPIPE, errno.EBADF)


class DescriptorTarget:
    def __init__(self, descriptor: int = 1) -> None:
        self.gone = False
        self._descriptor = descriptor
        self._torn = False

    def open(self) -> dict[str, Any]:
        return {"previous": None}

    def make_room(self, size: int) -> None:
        """It has no size."""

    def write(self, data: bytes) -> None:
        left = memoryview(b"\n" + data if self._torn else data)
        size, began = len(left), self._place()
        try:
            while left:
                try:
                    left = left[os.write(self._descriptor, left) :]
                except BlockingIOError:  # somebody made the descriptor non-blocking: keep the order and try on
                    sleep(_PAUSE_SECONDS)
        except OSError as error:
            self.gone = error.errno in _NEVER_AGAIN
            written = size - len(left)
            self._torn = self._torn or (written > 0 and not self._take_back(began, written))
            raise
        self._torn = False

    def _place(self) -> int | None:
        """Where in a file the next line goes; None of a pipe."""
        with contextlib.suppress(OSError):
            return os.lseek(self._descriptor, 0, os.SEEK_CUR)
        return None

    def _take_back(self, began: int | None, written: int) -> bool:
        """Of a file that nobody else wrote to meanwhile: lines that are whole would come again, with other words."""
        if began is None or self._place() != began + written:
            return False
        with contextlib.suppress(OSError):
            if os.fstat(self._descriptor).st_size == began + written:
                os.ftruncate(self._descriptor, began)
                return os.lseek(self._descriptor, began, os.SEEK_SET) == began
        return False


class FilesTarget:
    """requests-000001.log and so on, none larger than `max_bytes`, at most `max_files` of them. A process begins a new one."""

    def __init__(self, directory: Path, max_bytes: int, max_files: int, key: bytes = b"") -> None:
        self.gone = False
        self._directory = directory
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._key = key
        self._descriptor = -1
        self._size = 0
        self._deleted: list[dict[str, Any]] = []
        self._news: dict[str, Any] | None = None
        """Of the file that was begun, until a line of it says so."""

    def open(self) -> dict[str, Any]:
        """Names the last line of the files that are there already."""
        if self._news is None:
            files = list_files(self._directory)
            previous = next((head for file in reversed(files) if (head := last_head(file, self._key))), None)
            self._begin(files, {"previous": asdict(previous) if previous else None})
        return self._news or {}

    def make_room(self, size: int) -> dict[str, Any] | None:
        if self._size and self._size + size > self._max_bytes:
            self._begin(list_files(self._directory), {})
        return self._news

    def write(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError:
            os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(data)
        self._news = None

    def _begin(self, files: list[Path], news: dict[str, Any]) -> None:
        """A new file, with room made for it. Files that are deleted are named by the next line that can be written."""
        for file in files[: max(0, len(files) + 1 - self._max_files)]:
            head = last_head(file, self._key)
            file.unlink()
            self._deleted.append({"file": file.name, "through": asdict(head) if head else None})
        number = int(files[-1].stem.rpartition("-")[2]) + 1 if files else 1
        path = self._directory / f"requests-{number:06}.log"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o640)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._size = descriptor, 0
        self._news = {**news, "file": path.name, "deleted": self._deleted}
        self._deleted = []


def list_files(directory: Path) -> list[Path]:
    """The log's files, oldest first."""
    found = [(int(match[1]), file) for file in directory.iterdir() if (match := _NAME.fullmatch(file.name))]
    return [file for _, file in sorted(found)]


def last_head(file: Path, key: bytes = b"") -> Head | None:
    """Of the last line that is whole."""
    with contextlib.suppress(OSError), file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - _TAIL_BYTES))
        for raw in reversed(stream.read().split(b"\n")):
            if (line := read_line(raw, key)) is not None and line.intact:
                return line.head
    return None

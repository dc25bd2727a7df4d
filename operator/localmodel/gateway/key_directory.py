"""Reads the directory of API keys again and again, so that a new key works and a removed one does not, without a restart.

It only reads: what the files mean is decided in `keys`. A directory that is swapped under it (the kubelet replaces a link
named ..data) is read whole, before or after.
"""

import asyncio
import logging
from pathlib import Path

from localmodel.gateway.keys import Keyring, parse_keys

log = logging.getLogger("localmodel.gateway.keys")

POLL_SECONDS = 1.0
_LARGEST_READ = 64 * 1024
_SWAPPED = "..data"

_Signature = tuple[tuple[str, int, int, int], ...]


class KeyDirectory:
    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._seen: _Signature | None = None
        self._told = ""
        """Why the last look failed: said once, not every second."""
        self.ring = Keyring()
        """Empty while there is no such directory: nobody is let in."""
        self.look()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            self.look()

    def look(self) -> None:
        """Reads what changed. A directory that changes while it is read is read again at the next look."""
        try:
            signature = _sign(self._path)
            if signature == self._seen:
                return
            contents = {file.name: _read(file) for file in _files(_current(self._path))}
            if _sign(self._path) != signature:
                return
        except OSError as error:
            if self._path.exists():
                if self._told != str(error):
                    log.warning("the keys can't be read, those known before stay valid: %s", error)
                self._told = str(error)
                return
            signature, contents = (), {}
            if signature == self._seen:
                return
        self._seen, self._told = signature, ""
        self.ring = parse_keys(contents)
        log.info("%d API keys of %d names", len(self.ring.digests), len(self.ring.names))
        for problem in self.ring.problems:
            log.warning("%s", problem)


def _current(path: Path) -> Path:
    swapped = path / _SWAPPED
    return swapped.resolve(strict=True) if swapped.is_symlink() else path


def _sign(path: Path) -> _Signature:
    """Cheap, and different whenever a file is."""
    directory = _current(path)
    if directory != path:
        return ((directory.name, 0, 0, 0),)
    found = [(file.name, file.stat()) for file in _files(directory)]
    return tuple((name, stat.st_ino, stat.st_mtime_ns, stat.st_size) for name, stat in found)


def _files(directory: Path) -> list[Path]:
    return sorted(entry for entry in directory.iterdir() if not entry.name.startswith("..") and entry.is_file())


def _read(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(_LARGEST_READ)

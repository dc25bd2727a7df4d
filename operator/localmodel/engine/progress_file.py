"""Tells the gateway how much of the weights is read, while the model loads.

Why it exists: fifteen gigabytes from a slow disk look like a hang otherwise. It must never be why a load fails, so an error of
the file system is swallowed, and it writes a few times per second at most.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from localmodel.api.load_progress import LoadProgress, progress_path

LEAST_SECONDS = 0.25
"""Between two writes."""


@contextmanager
def show_progress(
    channel_token_file: str, files: Iterable[Path], began: float, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[int], None]]:
    """Gives a function that is told of each read tensor's bytes. `began`: when the load did, on `clock`."""
    path = Path(progress_path(channel_token_file))
    total = sum(file.stat().st_size for file in files)
    read, written_at = 0, float("-inf")

    def note(count: int) -> None:
        nonlocal read, written_at
        read, now = read + count, clock()
        if now - written_at >= LEAST_SECONDS or read >= total:
            written_at = now
            _write(path, LoadProgress(read_bytes=read, total_bytes=total, seconds=round(now - began, 3)))

    note(0)
    try:
        yield note
    finally:
        with suppress(OSError):
            path.unlink()


def _write(path: Path, progress: LoadProgress) -> None:
    """Whole or not at all, to whoever reads it meanwhile."""
    new = path.with_suffix(".new")
    with suppress(OSError):
        new.write_text(progress.model_dump_json())
        new.replace(path)

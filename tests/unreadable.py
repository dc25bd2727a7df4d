"""Files that belong to others: what a pod's user sees of weights that root copied with `umask 077`."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65532


@contextmanager
def open_directory() -> Iterator[Path]:
    """A directory that everyone may enter; pytest's own may not be."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def as_another_user() -> Iterator[None]:
    """Root may read everything, so root becomes somebody; others stay who they are and need mode 0."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)

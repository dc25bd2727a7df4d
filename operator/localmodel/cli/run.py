"""`localmodel run`: one LocalModel as plain processes, without root and without a cluster.

It must not touch anything outside its private directory (and --logs), and everything listens on 127.0.0.1 only.
"""

import asyncio
import tempfile
from pathlib import Path

from localmodel.cli.launch import RunOptions, prepare
from localmodel.cli.session import Session, tell


def run(options: RunOptions) -> int:
    """Serves until interrupted, or until the question is answered; returns the exit code. Raises Problem."""
    with tempfile.TemporaryDirectory(prefix="localmodel-", ignore_cleanup_errors=True) as directory:
        launch = prepare(options, Path(directory))
        for note in launch.notes:
            tell(note)
        try:
            return asyncio.run(Session(launch, options.question).run())
        finally:
            _remove_shared_memory(directory)


def _remove_shared_memory(directory: str) -> None:
    """What a killed Triton could not remove itself; its regions bear the directory's name (see `launch`)."""
    for region in Path("/dev/shm").glob(f"{Path(directory).name}*"):
        region.unlink(missing_ok=True)

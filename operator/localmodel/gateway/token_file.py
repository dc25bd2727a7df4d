"""The random token that gateway and engine share, so that nobody else on the pod's loopback can use the channel.

Whichever of the two starts first creates the file; the other reads it. It must appear complete or not at all.
"""

import os
import re
import secrets
from pathlib import Path

_TOKEN = re.compile(r"[0-9a-f]{64}")


class BadTokenFile(ValueError):
    """The file exists and holds something else."""


def read_or_create(path: str | Path) -> str:
    target = Path(path)
    if not target.exists():
        _create(target)
    token = target.read_text().strip()
    if not _TOKEN.fullmatch(token):
        raise BadTokenFile(f"{target} must hold 64 hex digits; delete it, and both sides will make a new one.")
    return token


def _create(target: Path) -> None:
    """A hard link from a complete file: it fails if the other side was faster, and then theirs is the token."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        try:
            os.link(draft, target)
        except FileExistsError:
            pass
    finally:
        draft.unlink()

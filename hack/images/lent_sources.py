"""Lends a build a Debian mirror: the base names none, and where a wheel or a kernel is made a compiler is installed on it.

Exists beside `base`, whose every change makes all images anew. Must not leave anything in an image.
"""

import re
import shutil
from pathlib import Path

from images.base import SUITE, mirror


def lend_sources(folder: Path) -> str:
    """The volume; its file is written into `folder`."""
    url = next(iter(mirror()), None) or default_mirror(Path(shutil.which("debootstrap") or ""))
    path = folder / "sources.list"
    path.write_text(f"deb {url} {SUITE} main\n")
    return f"{path}:/etc/apt/sources.list:ro"


def default_mirror(debootstrap: Path) -> str:
    """Where the base came from if this machine names no mirror for its suite."""
    found = re.search(r'^DEF_MIRROR="(\S+)"$', debootstrap.read_text(), re.M)
    if found is None:
        raise SystemExit(f"{debootstrap} names no mirror of its own; name one of {SUITE} in /etc/apt/sources.list")
    return found[1]

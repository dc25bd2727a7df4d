"""Lends a build the Debian mirror of this machine: the base names none, and a GPU edition installs a compiler on it.

Exists beside `base`, whose every change makes all images anew. Must not leave anything in an image.
"""

from pathlib import Path

from images.base import SUITE, mirror

DEBIAN = "http://deb.debian.org/debian"


def lend_sources(folder: Path) -> str:
    """The volume; its file is written into `folder`."""
    path = folder / "sources.list"
    path.write_text(f"deb {next(iter(mirror()), DEBIAN)} {SUITE} main\n")
    return f"{path}:/etc/apt/sources.list:ro"

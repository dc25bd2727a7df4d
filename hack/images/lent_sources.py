"""Lends a build the Debian mirror of this machine: the base names none, and a GPU edition installs a compiler on it.

Exists beside `base`, whose every change makes all images anew. Must not leave anything in an image.
"""

from pathlib import Path

from images.base import SUITE, mirror


def lend_sources(folder: Path) -> list[str]:
    """The volume, whose file is written into `folder`; none if this machine names no mirror."""
    path = folder / "sources.list"
    for url in mirror():
        path.write_text(f"deb {url} {SUITE} main\n")
        return [f"{path}:/etc/apt/sources.list:ro"]
    return []

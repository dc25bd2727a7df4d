"""Installs what a folder's package-lock.json names, into its node_modules, without running anything of it.

The lock has hashes and no download address: packages come from whatever registry npm is configured for.
"""

import subprocess
import sys
from pathlib import Path

import debian_packages

FLAGS = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--omit-lockfile-registry-resolved=true")
_DONE = ".installed"


def install(folder: Path) -> int:
    """Exit status. Does nothing if what the lock names is there."""
    lock = (folder / "package-lock.json").read_bytes()
    done = folder / "node_modules" / _DONE
    if done.exists() and done.read_bytes() == lock:
        return 0
    if status := debian_packages.install(("node", "npm")):
        return status
    status = subprocess.run(["npm", "ci", *FLAGS], cwd=folder, stdout=sys.stderr).returncode
    if status == 0:
        done.write_bytes(lock)
    return status


if __name__ == "__main__":
    sys.exit(next(filter(None, (install(Path(folder)) for folder in sys.argv[1:])), 0))

"""Brings programs that tests drive from Debian: the browser, and Node with npm. Does nothing for those on PATH.

Must not touch anything else on the machine. Not root, or no Debian: exit status 3, and what to install is said.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

PACKAGES_OF = {
    "chromium": ("chromium", "fonts-dejavu-core", "fonts-wqy-microhei"),
    "node": ("nodejs",),
    "npm": ("npm",),
}
CANNOT_RUN_HERE = 3
_WAIT_FOR_LOCK = ("-o", "DPkg::Lock::Timeout=600")


def missing_packages(programs: Sequence[str]) -> list[str]:
    return [package for program in programs if not shutil.which(program) for package in PACKAGES_OF[program]]


def install(programs: Sequence[str]) -> int:
    """Exit status: 0 when all programs are there."""
    packages = missing_packages(programs)
    if not packages:
        return 0
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        print(f"missing: {' '.join(packages)} (Debian's names); install them, then try again", file=sys.stderr)
        return CANNOT_RUN_HERE
    print(f"installing from Debian: {' '.join(packages)}", file=sys.stderr)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "--quiet"], ["install", "--yes", "--quiet", "--no-install-recommends", *packages]):
        subprocess.run(["apt-get", *_WAIT_FOR_LOCK, *command], check=True, stdout=sys.stderr, env=environment)
    return 0


if __name__ == "__main__":
    sys.exit(install(sys.argv[1:]))

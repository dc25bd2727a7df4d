"""Makes a fresh Debian machine able to build images: installs what is missing and says so.

Must not touch anything else on the machine.
"""

import os
import shutil
import subprocess
import sys

PACKAGE_OF = {"buildah": "buildah", "debootstrap": "debootstrap"}
NEEDS_ROOT = 3
WAIT_FOR_LOCK = ("-o", "DPkg::Lock::Timeout=600")


def prepare() -> None:
    if os.geteuid() != 0:
        print("Building images needs root: buildah and debootstrap make file systems of other users.", file=sys.stderr)
        raise SystemExit(NEEDS_ROOT)
    missing = [package for command, package in PACKAGE_OF.items() if not shutil.which(command)]
    if not missing:
        return
    print(f"installing from Debian: {' '.join(missing)}", file=sys.stderr)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    install = ["install", "--yes", "--quiet", "--no-install-recommends", *missing]
    for command in (["update", "--quiet"], install):
        subprocess.run(["apt-get", *WAIT_FOR_LOCK, *command], check=True, stdout=sys.stderr, env=environment)

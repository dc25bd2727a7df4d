"""Two Debian root file systems: what every image starts from, and the same with the tools that builds need.

Exists because a machine without a container registry still has Debian's packages. Must hold nothing of LocalModel, so
that it is built once. The tools' image is never pushed.
"""

import shutil
import stat
import subprocess
from pathlib import Path

from images.store import Store

SUITE = "bookworm"
RUNTIME_PACKAGES = ("python3", "ca-certificates")
SET_ID = stat.S_ISUID | stat.S_ISGID
BUILD_PACKAGES = ("python3-pip", "binutils", "libpython3.11")
NOT_NEEDED = (
    "usr/share/doc/*", "usr/share/man/*", "usr/share/info/*", "usr/share/locale/*", "usr/share/lintian",
    "usr/share/bash-completion",
    "usr/lib/*/gconv/*", "usr/lib/python3*/test", "usr/lib/python3*/lib2to3", "usr/share/zoneinfo/right",
    "usr/share/zoneinfo/posix", "etc/hostname", "var/cache/apt/*", "var/cache/debconf/*", "var/log/*", "tmp/*",
)  # fmt: skip
OF_THIS_MACHINE = ("etc/apt/sources.list", "etc/resolv.conf", "var/lib/apt/lists")
"""What debootstrap leaves of this machine's mirror and network. Installing the tools needs it, no image keeps it."""


def mirror() -> list[str]:
    """The Debian mirror this machine uses, for debootstrap; nothing if it names none, which means Debian's own."""
    form = ["--format", "$(REPO_URI)", f"Codename: {SUITE}", "Created-By: Packages"]
    found = subprocess.run(["apt-get", "indextargets", *form], capture_output=True, text=True, check=False)
    return found.stdout.split()[:1]


def clean(tree: Path) -> None:
    for pattern in (*NOT_NEEDED, *OF_THIS_MACHINE):
        for path in tree.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    for folder in ("usr/bin", "usr/sbin", "usr/lib"):
        for path in (tree / folder).rglob("*"):
            if not path.is_symlink() and path.is_file() and (mode := path.stat().st_mode) & SET_ID:
                path.chmod(stat.S_IMODE(mode) & ~SET_ID)


def chroot(tree: Path, *command: str) -> None:
    environment = {"DEBIAN_FRONTEND": "noninteractive", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    subprocess.run(["chroot", tree, *command], check=True, stdout=subprocess.DEVNULL, env=environment)


def build(store: Store, base: str, tools: str) -> None:
    tree, saved = store.folder / "base-tree", store.folder / "base-apt"
    for folder in (tree, saved):
        shutil.rmtree(folder, ignore_errors=True)
    tree.mkdir(parents=True)
    bootstrap = ["debootstrap", "--variant=minbase", f"--include={','.join(RUNTIME_PACKAGES)}", SUITE, tree, *mirror()]
    subprocess.run(bootstrap, check=True, stdout=subprocess.DEVNULL)
    for path in OF_THIS_MACHINE:
        (saved / path).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (tree / path).is_dir() else shutil.copy)(tree / path, saved / path)
    clean(tree)
    store.import_tree(tree, base)

    shutil.copytree(saved, tree, dirs_exist_ok=True)
    chroot(tree, "apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *BUILD_PACKAGES)
    clean(tree)
    store.import_tree(tree, tools)
    for folder in (tree, saved):
        shutil.rmtree(folder)

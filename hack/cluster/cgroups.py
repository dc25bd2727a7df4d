"""The cluster's own control groups: limits for pods, and the kernel's record of which processes are ours.

Every daemon, shim and container of a cluster lives below one group that we made, so ending "all of ours"
never depends on names or on process numbers that may have been given to others. Must never move or
end a process outside that group.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
_CPUSET_FILES = ("cpuset.cpus", "cpuset.mems")


def is_unified(mount: Path = MOUNT) -> bool:
    """True on cgroup v2."""
    return (mount / "cgroup.controllers").exists()


def hierarchies(mount: Path = MOUNT) -> list[Path]:
    if is_unified(mount):
        return [mount]
    return sorted(path for path in mount.iterdir() if (path / "cgroup.procs").exists() and not path.is_symlink())


def create_group(name: str, mount: Path = MOUNT) -> None:
    """Make the group in every hierarchy, usable at once: v1's cpuset and v2's controllers are handed down."""
    for hierarchy in hierarchies(mount):
        path = hierarchy
        for part in Path(name).parts:
            if is_unified(mount):
                _enable_controllers(path)
            path = path / part
            path.mkdir(exist_ok=True)
            for file in _CPUSET_FILES:
                if hierarchy.name == "cpuset" and not (path / file).read_text().strip():
                    (path / file).write_text((path.parent / file).read_text())


def _enable_controllers(path: Path) -> None:
    wanted = (path / "cgroup.controllers").read_text().split()
    enabled = (path / "cgroup.subtree_control").read_text().split()
    for controller in set(wanted) - set(enabled):
        (path / "cgroup.subtree_control").write_text(f"+{controller}")


def tracking_procs_file(name: str, mount: Path = MOUNT) -> Path:
    """The file a process writes itself into to be counted as ours."""
    return (mount if is_unified(mount) else mount / "pids") / name / "cgroup.procs"


def members(name: str, mount: Path = MOUNT) -> set[int]:
    """Every process in the group or below it, in any hierarchy."""
    return {pid for group in _groups(name, mount) for pid in _read_pids(group / "cgroup.procs")}


def end_members(name: str, seconds: float = 10.0, mount: Path = MOUNT) -> None:
    """SIGKILL until nobody is left; membership is read anew each round, so a recycled number is never hit."""
    deadline = time.monotonic() + seconds
    while pids := members(name, mount):
        if time.monotonic() > deadline:
            raise SystemExit(f"processes of the old cluster don't end: {sorted(pids)}")
        for pid in pids - {os.getpid()}:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)


def remove_group(name: str, mount: Path = MOUNT) -> None:
    for group in _groups(name, mount):
        for attempt in range(40):
            try:
                group.rmdir()
            except FileNotFoundError:
                pass
            except OSError:
                if attempt == 39:
                    raise
                time.sleep(0.05)
                continue
            break


def _groups(name: str, mount: Path) -> Iterator[Path]:
    """Deepest first."""
    for hierarchy in hierarchies(mount):
        for folder, _, _ in os.walk(hierarchy / name, topdown=False):
            yield Path(folder)


def _read_pids(file: Path) -> list[int]:
    try:
        return [int(line) for line in file.read_text().split()]
    except OSError:
        return []

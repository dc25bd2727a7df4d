"""Removes a recorded cluster, whole or half made, running or crashed.

Must never remove anything that the record does not name, and never a folder with something mounted in it.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

from cluster import processes, registry
from cluster.cgroups import end_members, remove_group
from cluster.layout import Layout
from cluster.network import remove_network
from cluster.record import Record


def remove_cluster(layout: Layout, record: Record) -> None:
    """The registry first and gently, as it may be writing; then everything that is in our group."""
    for name in (registry.PROCESS, registry.NODES_PROCESS):
        if name in record.processes:
            processes.end(record.processes[name])
    for process in record.processes.values():
        processes.end(process, seconds=0, first=signal.SIGKILL)
    if record.cgroup:
        end_members(record.cgroup)
        remove_group(record.cgroup)
    remove_network(record)
    for name, value in record.sysctls.items():
        path = Path("/proc/sys", name)
        if path.read_text().strip() != value:
            path.write_text(value)
    if mounted := mounts_below(layout.state, _mountinfo()):
        raise SystemExit(f"mounts below the state folder that the cluster did not make: {', '.join(mounted)}")
    for folder in map(Path, record.folders):
        if folder.is_dir() and not any(folder.iterdir()):
            if str(folder) in mounts_below(folder, _mountinfo()):
                subprocess.run(["umount", "-n", folder], check=True)
            folder.rmdir()
    shutil.rmtree(layout.state)


def mounts_below(folder: Path, mountinfo: str) -> list[str]:
    """Mount points at or below the folder, from the text of a mountinfo file."""
    points = (line.split()[4] for line in mountinfo.splitlines())
    return [point for point in points if point == str(folder) or point.startswith(f"{folder}/")]


def _mountinfo() -> str:
    return Path("/proc/self/mountinfo").read_text()

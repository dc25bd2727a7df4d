"""Starting one of the cluster's daemons: into our control group, under its own log, into the record.

Knows nothing of what the daemons do.
"""

from __future__ import annotations

from pathlib import Path

from cluster import processes
from cluster.cgroups import tracking_procs_file
from cluster.layout import CGROUP, Layout
from cluster.record import Record

DAEMONS_GROUP = f"{CGROUP}/daemons"


def start_daemon(layout: Layout, record: Record, name: str, command: list[str], enter: list[str]) -> None:
    """`enter` goes into the namespaces first; the whole command is recorded, so that it can be started again."""
    started = processes.start(
        [*enter, *command], log_path(layout, name), tracking_procs_file(DAEMONS_GROUP), _environment(layout)
    )
    record.processes[name] = started
    record.save()


def log_path(layout: Layout, name: str) -> Path:
    return layout.logs / f"{name}.log"


def _environment(layout: Layout) -> dict[str, str]:
    """Nothing else of the caller's: a proxy setting, say, would break the daemons."""
    return {
        "PATH": f"{layout.current}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(Path.home()),
    }

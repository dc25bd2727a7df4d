"""Starts the cluster's daemons and ends them, by process id and start time.

A number alone is not an identity: after a crash the kernel may have given it to somebody else. Nothing
here looks a process up by name.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

_START_TIME_FIELD = 19  # of /proc/PID/stat, counted after the command's closing parenthesis


@dataclass(frozen=True)
class Recorded:
    """One daemon: enough to know it again, to end it and to start it once more."""

    pid: int
    start_time: int
    command: list[str]
    log: str

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def parse_start_time(stat: str) -> int:
    """Clock ticks since boot; the command's name in parentheses may hold spaces and parentheses itself."""
    return int(stat.rpartition(")")[2].split()[_START_TIME_FIELD])


def parse_state(stat: str) -> str:
    return stat.rpartition(")")[2].split()[0]


def is_running(process: Recorded, proc: Path = Path("/proc")) -> bool:
    """True only for the very process that was recorded; a zombie has ended."""
    try:
        stat = (proc / str(process.pid) / "stat").read_text()
    except OSError:
        return False
    return parse_start_time(stat) == process.start_time and parse_state(stat) != "Z"


def start(command: list[str], log: Path, procs_file: Path, environment: dict[str, str]) -> Recorded:
    """Start in a session of its own and in the group that the file belongs to.

    The shell writes itself into the group, so no child can be born outside it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    shell = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(procs_file), *command]
    with log.open("ab") as output:
        process = subprocess.Popen(
            shell, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", env=environment, start_new_session=True
        )
    stat = Path(f"/proc/{process.pid}/stat").read_text()
    return Recorded(process.pid, parse_start_time(stat), command, str(log))


def end(process: Recorded, seconds: float = 5.0, first: signal.Signals = signal.SIGTERM) -> None:
    """Ask, wait, then insist. Does nothing when the recorded process has gone."""
    deadline = time.monotonic() + seconds
    _send(process, first)
    while is_running(process):
        if time.monotonic() > deadline:
            _send(process, signal.SIGKILL)
        time.sleep(0.02)
        _reap(process.pid)


def _send(process: Recorded, what: signal.Signals) -> None:
    """Through a pidfd that is checked after it was opened: the number can't change hands in between."""
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        return
    try:
        if is_running(process):
            signal.pidfd_send_signal(handle, what)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass

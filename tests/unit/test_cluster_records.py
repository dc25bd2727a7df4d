"""The local cluster's guards: whose process is it, what does a record hold, what would be removed."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from cluster import cgroups, processes
from cluster.layout import Layout
from cluster.processes import Recorded
from cluster.record import Record
from cluster.teardown import mounts_below

STAT = "{pid} (a) b ( c) {state} 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 {start} 20 21"


def fake_proc(folder: Path, pid: int, start: int, state: str = "S") -> Path:
    (folder / str(pid)).mkdir()
    (folder / str(pid) / "stat").write_text(STAT.format(pid=pid, state=state, start=start))
    return folder


def test_start_time_survives_parentheses_and_spaces_in_the_name() -> None:
    assert processes.parse_start_time(STAT.format(pid=7, state="S", start=4711)) == 4711


@pytest.mark.parametrize(
    ("start", "state", "expected"),
    [(100, "S", True), (101, "S", False), (100, "Z", False)],
    ids=["the same process", "a recycled number", "a zombie"],
)
def test_only_the_recorded_process_counts_as_running(tmp_path: Path, start: int, state: str, expected: bool) -> None:
    proc = fake_proc(tmp_path, 42, start, state)
    assert processes.is_running(Recorded(42, 100, ["x"], "x.log"), proc) is expected


def test_a_process_that_is_gone_is_not_running(tmp_path: Path) -> None:
    assert not processes.is_running(Recorded(42, 100, ["x"], "x.log"), tmp_path)


def test_end_leaves_a_process_alone_whose_number_was_recycled() -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        start = processes.parse_start_time(Path(f"/proc/{stranger.pid}/stat").read_text())
        processes.end(Recorded(stranger.pid, start - 1, ["sleep"], "x.log"), seconds=0, first=signal.SIGKILL)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_end_insists_when_asking_does_not_help(tmp_path: Path) -> None:
    script = 'trap "" TERM; touch "$0"; while :; do sleep 0.05; done'
    stubborn = subprocess.Popen(["sh", "-c", script, str(tmp_path / "trapped")])
    while not (tmp_path / "trapped").exists():
        pass
    start = processes.parse_start_time(Path(f"/proc/{stubborn.pid}/stat").read_text())
    recorded = Recorded(stubborn.pid, start, ["sh"], "x.log")
    processes.end(recorded, seconds=0.1)
    assert not processes.is_running(recorded)


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    record = Record(tmp_path / "state" / "state.json", tools={"etcd": "etcd-1"}, netns=["a"], sysctls={"kernel/panic": "0"})
    record.processes["etcd"] = Recorded(os.getpid(), 5, ["etcd"], "etcd.log")
    record.save()
    assert Record.load(record.path) == record


def test_no_record_is_no_cluster(tmp_path: Path) -> None:
    assert Record.load(tmp_path / "state.json") is None


def test_a_mount_anywhere_below_the_state_folder_is_found() -> None:
    lines = [
        "1 0 8:1 / / rw - ext4 x rw",
        "2 1 0:5 / /c/state/node-1/pods rw - tmpfs x rw",
        "3 1 0:5 / /c/stateful rw - tmpfs x rw",
    ]
    assert mounts_below(Path("/c/state"), "\n".join(lines)) == ["/c/state/node-1/pods"]


def fake_hierarchy(mount: Path, *groups: str) -> None:
    for controller in ("cpuset", "pids"):
        for group in ("", *groups):
            folder = mount / controller / group
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "cgroup.procs").write_text("")
        (mount / "cpuset" / "cpuset.cpus").write_text("0-1\n")
        (mount / "cpuset" / "cpuset.mems").write_text("0\n")


def test_members_are_found_in_every_hierarchy_and_depth_but_not_beside(tmp_path: Path) -> None:
    fake_hierarchy(tmp_path, "ours", "ours/node-1/pod", "other")
    (tmp_path / "pids/ours/cgroup.procs").write_text("11\n12\n")
    (tmp_path / "cpuset/ours/node-1/pod/cgroup.procs").write_text("13\n")
    (tmp_path / "pids/other/cgroup.procs").write_text("99\n")
    assert cgroups.members("ours", tmp_path) == {11, 12, 13}


def test_no_group_has_no_members(tmp_path: Path) -> None:
    fake_hierarchy(tmp_path)
    assert cgroups.members("ours", tmp_path) == set()


@pytest.mark.parametrize(
    ("environment", "cache", "state"),
    [
        ({"HOME": "/h"}, "/h/.cache/localmodel", "/h/.cache/localmodel/cluster"),
        ({"HOME": "/h", "LOCALMODEL_CACHE": "/c"}, "/c", "/c/cluster"),
        ({"HOME": "/h", "LOCALMODEL_CACHE": "/c", "LOCALMODEL_CLUSTER": "/s"}, "/c", "/s"),
        ({"HOME": "/h", "LOCALMODEL_CACHE": ""}, "/h/.cache/localmodel", "/h/.cache/localmodel/cluster"),
    ],
)
def test_the_environment_moves_the_cache_and_the_state(environment: dict[str, str], cache: str, state: str) -> None:
    layout = Layout.from_environment(environment)
    assert (str(layout.cache), str(layout.state)) == (cache, state)

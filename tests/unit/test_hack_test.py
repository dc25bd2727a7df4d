"""hack/test.py: which layers run, in which order, and what is said of those that can't."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location("hack_test", Path(__file__).parents[2] / "hack" / "test.py")
assert SPEC and SPEC.loader
runner = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(runner)


def command(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def test_layers_run_in_their_own_order():
    names = [layer.name for layer in runner.choose(None, fast=False)]
    assert names == ["lint", "unit", "gateway", "triton", "suites", "page", "api", "e2e"]
    assert [layer.name for layer in runner.choose(["e2e", "lint"], fast=False)] == ["lint", "e2e"]
    assert [layer.name for layer in runner.choose(None, fast=True)] == ["lint", "unit"]


def test_a_layer_ends_at_its_first_failing_command(tmp_path):
    layer = runner.Layer("x", (command("raise SystemExit(1)"), command(f"open({str(tmp_path / 'ran')!r}, 'w')")))
    assert runner.run_layer(layer).outcome == runner.FAILED
    assert not (tmp_path / "ran").exists()


def test_a_layer_whose_commands_end_well_has_passed():
    assert runner.run_layer(runner.Layer("x", (command(""),))).outcome == runner.PASSED


def test_a_layer_that_cannot_run_says_why_and_runs_nothing():
    layer = runner.Layer("x", (("/does/not/exist",),), lambda: "no rights")
    assert runner.run_layer(layer).outcome == "not run: no rights"


def test_a_tool_that_finds_the_machine_unable_is_no_failure():
    assert runner.run_layer(runner.Layer("x", (command("raise SystemExit(3)"),))).outcome.startswith("not run: ")


def test_pytests_own_status_3_is_a_failure(tmp_path):
    (tmp_path / "pytest.py").write_text("raise SystemExit(3)")
    inside = (sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import pytest", "pytest")
    assert runner.run_layer(runner.Layer("x", (inside,))).outcome == runner.FAILED


@pytest.mark.parametrize(("strict", "status"), [(False, 0), (True, 1)])
def test_what_could_not_run_fails_only_in_ci(strict, status):
    text, found = runner.conclude(
        [runner.Result("unit", runner.PASSED, 2.0), runner.Result("e2e", "not run: not root")], strict=strict
    )
    assert found == status
    assert "e2e           0 s  not run: not root" in text
    assert ("failed: e2e" in text) == strict


def test_a_failed_layer_fails_the_run():
    assert runner.conclude([runner.Result("unit", runner.FAILED, 2.0)], strict=False)[1] == 1


def test_without_root_there_is_no_cluster(monkeypatch):
    monkeypatch.setattr(runner.os, "geteuid", lambda: 1000)
    assert runner.why_no_cluster().startswith("not root")


def test_without_go_the_api_server_must_be_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(runner, "CACHE", tmp_path)
    monkeypatch.setattr(runner.shutil, "which", lambda name: None if name == "go" else f"/usr/bin/{name}")
    assert runner.why_no_api().startswith("go is missing")
    (tmp_path / "bin" / "current").mkdir(parents=True)
    for name in ("etcd", "kube-apiserver", "kubectl", "helm", "kubeconform"):
        (tmp_path / "bin" / "current" / name).touch()
    assert runner.why_no_api() == ""


PARENT = """import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
time.sleep(600)"""


def wait_until(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "it never became true"
        time.sleep(0.01)


def started_by(log):
    """The process that PARENT has started."""
    wait_until(lambda: log.read_text().endswith("\n"))
    return int(log.read_text())


def is_alive(pid):
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_what_is_built_beside_the_tests_is_slowed_by_them_and_ends_whole(tmp_path):
    log = tmp_path / "log"
    with log.open("w") as file:
        process = runner.start_aside(command(PARENT), file)
    try:
        child = started_by(log)
        assert [os.getpriority(os.PRIO_PROCESS, pid) for pid in (process.pid, child)] == [19, 19]
        assert os.getsid(child) == process.pid != os.getsid(0)
        group = Path(f"/proc/{child}/autogroup")
        assert not group.exists() or re.search(r"nice 19$|^$", group.read_text().strip())
    finally:
        runner.end_group(process)
    assert process.returncode == -signal.SIGKILL
    wait_until(lambda: not is_alive(child))
    runner.end_group(process)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_no_build_behind(tmp_path, number):
    code = f"""import importlib.util, signal, sys
spec = importlib.util.spec_from_file_location("hack_test", {runner.__file__!r})
runner = importlib.util.module_from_spec(spec)
spec.loader.exec_module(runner)
signal.signal(signal.SIGINT, signal.default_int_handler)
log = open({str(tmp_path / "log")!r}, "w")
runner.start_building = lambda chosen: runner.start_aside((sys.executable, "-c", {PARENT!r}), log)
runner.LAYERS = (runner.Layer("unit", ((sys.executable, "-c", "print('runs', flush=True); import time; time.sleep(600)"),)),)
runner.main([])"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    while process.stdout.readline() not in ("runs\n", ""):
        pass
    child = started_by(tmp_path / "log")
    process.send_signal(number)
    assert process.wait(60) != 0
    process.stdout.close()
    wait_until(lambda: not is_alive(child))

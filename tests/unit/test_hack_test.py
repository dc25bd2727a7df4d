"""hack/test.py: which layers run, in which order, and what is said of those that can't."""

import importlib.util
import sys
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

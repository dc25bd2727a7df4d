"""What the tests take from Debian and npm: only what is missing, and a machine that can't is told what to install."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

import debian_packages
import node_packages

ROOT = Path(__file__).parents[2]


def test_only_what_is_missing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None if name == "npm" else f"/usr/bin/{name}")
    assert debian_packages.missing_packages(["chromium", "node", "npm"]) == ["npm"]


def test_who_may_not_install_is_told_what(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("nothing may be run"))
    assert debian_packages.install(["node", "npm"]) == debian_packages.CANNOT_RUN_HERE
    assert "missing: nodejs npm" in capsys.readouterr().err


def test_what_is_there_is_not_installed_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[Any] = []

    def run(command: list[str], cwd: Path, **_: Any) -> Any:
        calls.append(command)
        (cwd / "node_modules").mkdir(exist_ok=True)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(subprocess, "run", run)
    (tmp_path / "package-lock.json").write_text("{}")
    assert [node_packages.install(tmp_path) for _ in range(2)] == [0, 0] and len(calls) == 1
    assert "--ignore-scripts" in calls[0]
    (tmp_path / "package-lock.json").write_text('{"changed": true}')
    assert node_packages.install(tmp_path) == 0 and len(calls) == 2


@pytest.mark.parametrize("folder", ["tests/page", "tests/suites/node"])
def test_locks_have_hashes_and_no_addresses(folder: str) -> None:
    text = (ROOT / folder / "package-lock.json").read_text()
    packages = {name: entry for name, entry in json.loads(text)["packages"].items() if name}
    assert packages and all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    assert "resolved" not in text and "://" not in text.replace("https://github.com/sponsors", "")

"""Committed files are what the generator writes, and the check that says so can fail."""

import subprocess
import sys
from pathlib import Path

import pytest

import generate

ROOT = Path(__file__).resolve().parents[2]


def test_committed_files_are_fresh() -> None:
    result = subprocess.run([sys.executable, "hack/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_crd_and_reference_are_among_them() -> None:
    texts = generate.collect_outputs()
    assert {"crds/localmodels.yaml", "docs/reference/localmodel.md"} <= set(texts)
    assert generate.collect_outputs() == texts, "two runs must give the same bytes"


def test_check_names_stale_and_missing_files_and_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = {"a/fresh.txt": "1\n", "a/edited.txt": "2\n", "b/missing.txt": "3\n"}
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(generate, "collect_outputs", lambda: texts)
    assert generate.main([]) == 0
    (tmp_path / "a/edited.txt").write_text("2")
    (tmp_path / "b/missing.txt").unlink()
    capsys.readouterr()
    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "stale: a/edited.txt",
        "stale: b/missing.txt",
        "run `python hack/generate.py` and commit what it writes",
    ]
    assert (tmp_path / "a/edited.txt").read_text() == "2", "--check changes nothing"
    assert generate.main([]) == 0 and generate.main(["--check"]) == 0


def test_an_unchanged_file_is_not_written_again(tmp_path: Path) -> None:
    texts = {"a.txt": "1"}
    assert generate.write_outputs(texts, tmp_path) == ["a.txt"]
    assert generate.write_outputs(texts, tmp_path) == []

"""Rules about the tree itself: who may import whom, and what may never be committed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINT = Path(sys.executable).parent / "lint-imports"
MOST_BYTES = 1024 * 1024
GENERATED = re.compile(
    r"(^|/)(__pycache__|\.venv|node_modules|[^/]*\.egg-info|\.[a-z]+_cache|\.hypothesis)(/|$)|\.(pyc|so|o|log)$"
)
REGISTRIES = re.compile(
    r"\b(docker|ghcr|quay|nvcr|gcr|lscr)\.io\b|\bregistry\.k8s\.io\b|\bpublic\.ecr\b|\bmcr\.microsoft\b|\bpypi\.org\b"
    r"|\bpythonhosted\.org\b|\bproxy\.golang\.org\b|\bnpmjs\.(org|com)\b|\bhuggingface\.co\b|\bdeb\.debian\.org\b",
    re.IGNORECASE,
)
MACHINE_PATHS = re.compile(r"(^|[^\w./-])/(work|home|Users|root(?!/\.(cache|config)\b))/\w")
"""`/root/.cache` and `/root/.config` are places inside an image, whose user is root."""
MAY_NAME_THEM = {"tests/unit/test_layers.py"}


def _lint(source: Path) -> subprocess.CompletedProcess[str]:
    command = [str(LINT), "--no-cache", str(ROOT / "pyproject.toml")]
    return subprocess.run(command, cwd=source, env={**os.environ, "PYTHONPATH": str(source)}, capture_output=True, text=True)


def _committed() -> list[str]:
    output = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in output.split("\0") if name and (ROOT / name).is_file()]


def test_layers_hold() -> None:
    result = _lint(ROOT / "operator")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("core/names.py", "import os"),
        ("core/names.py", "import localmodel.controller"),
        ("core/names.py", "import localmodel.c_library"),
        ("api/values.py", "import localmodel.core"),
        ("api/values.py", "import time"),
        ("gateway/__init__.py", "import localmodel.engine"),
        ("gateway/__init__.py", "import kubernetes"),
        ("controller/__init__.py", "import kopf"),
    ],
)
def test_a_broken_layer_is_seen(module: str, line: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "operator" / "localmodel", tmp_path / "localmodel", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "localmodel" / module).open("a") as file:
        file.write(f"\n{line}\n")
    result = _lint(tmp_path)
    assert result.returncode == 1 and "BROKEN" in result.stdout, result.stdout + result.stderr


def test_the_source_root_is_no_package() -> None:
    """A package named `operator` would shadow the standard library's module for everything that starts in the root."""
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_nothing_generated_by_a_machine_is_committed() -> None:
    assert [name for name in _committed() if GENERATED.search(name)] == []


def test_nothing_large_is_committed() -> None:
    assert [name for name in _committed() if (ROOT / name).stat().st_size > MOST_BYTES] == []


def _lines_with(pattern: re.Pattern[str]) -> list[str]:
    found = []
    for name in set(_committed()) - MAY_NAME_THEM:
        try:
            text = (ROOT / name).read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{name}:{n}: {line.strip()[:120]}" for n, line in enumerate(text.splitlines(), 1) if pattern.search(line)]
    return found


def test_no_registry_is_named() -> None:
    """Where images and packages come from is the user's setting: on-prem, none of the public hosts can be reached."""
    assert _lines_with(REGISTRIES) == []


def test_no_path_of_a_machine_is_named() -> None:
    assert _lines_with(MACHINE_PATHS) == []


@pytest.mark.parametrize("line", ["FROM docker.io/library/debian", "index-url = https://pypi.org/simple"])
def test_a_registry_is_seen(line: str) -> None:
    assert REGISTRIES.search(line)


@pytest.mark.parametrize(
    ("line", "seen"), [("cd /home/me/x", True), ('"/root/x"', True), ("/root/.cache/pip", False), ("a/work/b", False)]
)
def test_a_path_of_a_machine_is_seen(line: str, seen: bool) -> None:
    assert bool(MACHINE_PATHS.search(line)) == seen

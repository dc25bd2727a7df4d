"""The environment of the suites that others wrote: from its own lock file, in the cache, apart from the product's."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "hack" / "locks" / "suites.txt"
CACHE = Path(os.environ.get("LOCALMODEL_CACHE") or Path.home() / ".cache" / "localmodel") / "suites"


def suites_python() -> Path:
    """The interpreter of the environment; made when the lock file is new."""
    home = CACHE / f"venv-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]}"
    python, complete = home / "bin" / "python", home / ".complete"
    if not complete.exists():
        shutil.rmtree(home, ignore_errors=True)
        uv = [sys.executable, "-m", "uv"]
        _run([*uv, "venv", "--quiet", "--python", sys.executable, str(home)])
        _run([*uv, "pip", "install", "--quiet", "--python", str(python), "--require-hashes", "-r", str(LOCK)])
        complete.touch()
    return python


def openai_sources() -> Path:
    """The unpacked source archive of the openai package, which has its tests; its hash is in the lock file."""
    entry = re.search(r"^openai==(\S+) (.*\n)(?:    .*\n)+", LOCK.read_text(), re.M)
    assert entry is not None, f"{LOCK} names no openai"
    home = CACHE / f"openai-{entry[1]}"
    if not (home / ".complete").exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        wanted = CACHE / "openai.txt"
        wanted.write_text(entry[0])
        pip = [str(suites_python()), "-m", "pip", "--disable-pip-version-check"]
        only_source = ["--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--require-hashes"]
        _run([*pip, "download", "--quiet", *only_source, "-r", str(wanted), "--dest", str(CACHE)])
        shutil.rmtree(home, ignore_errors=True)
        with tarfile.open(CACHE / f"openai-{entry[1]}.tar.gz") as archive:
            archive.extractall(CACHE, filter="data")
        (home / ".complete").touch()
    return home


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"

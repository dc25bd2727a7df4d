"""Builds the tools with the Go toolchain into the cache, once per key, telling how far it is.

Two callers at once are safe: one lock per tool, a temporary folder, one rename. It must never touch
a finished folder: a changed recipe has another key.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.layout import Layout
from cluster.report import Unavailable, say
from cluster.tools import TOOLS, Tool, cache_key, linker_flags, read_versions

REPORT_EVERY_SECONDS = 15.0


@contextmanager
def exclusive(path: Path, waiting: str) -> Iterator[None]:
    """Hold the lock file; says what it waits for when another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting: {waiting}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def build_tools(layout: Layout, tools: Iterable[Tool]) -> None:
    versions = read_versions()
    missing = [tool for tool in tools if not (layout.bin / cache_key(tool, versions)).is_dir()]
    if missing and shutil.which("go") is None:
        raise Unavailable("The Go toolchain (go) is not on the PATH, so the cluster's programs can't be built.")
    for number, tool in enumerate(missing, 1):
        key = cache_key(tool, versions)
        with exclusive(layout.bin / f"{tool.name}.lock", f"another process builds {tool.name}"):
            if not (layout.bin / key).is_dir():
                _build(layout, tool, versions[tool.version_key], key, f"[{number}/{len(missing)}]")
    for tool in tools:
        _publish(layout, tool, cache_key(tool, versions))


def _build(layout: Layout, tool: Tool, version: str, key: str, position: str) -> None:
    say(f"{position} building {tool.name} {version}")
    started = time.monotonic()
    for abandoned in layout.bin.glob(f".{tool.name}-*"):
        shutil.rmtree(abandoned)
    folder = Path(tempfile.mkdtemp(prefix=f".{tool.name}-", dir=layout.bin))
    try:
        environment = os.environ | {"CGO_ENABLED": "1" if tool.cgo else "0", "GOFLAGS": "-buildvcs=false"}
        flags = ["-v", "-trimpath", "-ldflags", linker_flags(tool, version)]
        flags += ["-tags", tool.tags] if tool.tags else []
        if tool.packages:
            environment["GOBIN"] = str(folder)
            command = ["go", "install", *flags, *(f"{package}@v{version}" for package in tool.packages)]
            _run_go(command, layout.bin, environment, tool, position, started)
        else:
            command = ["go", "build", *flags, "-o", str(folder / tool.name), "."]
            _run_go(command, tool.source, environment, tool, position, started)
        for alias in tool.aliases:
            (folder / alias).symlink_to(tool.name)
        folder.chmod(0o755)
        folder.rename(layout.bin / key)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    say(f"{position} {tool.name} {version} built in {time.monotonic() - started:.0f} s")


def _run_go(command: list[str], directory: Path, environment: dict[str, str], tool: Tool, position: str, started: float) -> None:
    process = subprocess.Popen(
        command, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lambda out: lines.extend(iter(out.readline, "")), args=(process.stdout,))
    reader.start()
    reported = time.monotonic()
    try:
        while process.poll() is None:
            time.sleep(0.1)
            if time.monotonic() - reported >= REPORT_EVERY_SECONDS:
                reported = time.monotonic()
                packages = sum(not line.startswith("go: ") for line in lines)
                say(f"{position} {tool.name}: {packages} packages compiled, {reported - started:.0f} s")
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()
        reader.join()
    if process.returncode:
        raise SystemExit(f"building {tool.name} failed:\n{''.join(lines[-30:])}")


def _publish(layout: Layout, tool: Tool, key: str) -> None:
    """Point current/<command> at this key's binaries, each by one rename."""
    layout.current.mkdir(parents=True, exist_ok=True)
    for name in (*tool.binaries, *tool.aliases):
        target = Path("..", key, name)
        link = layout.current / name
        if link.is_symlink() and link.readlink() == target:
            continue
        temporary = layout.current / f".{name}.{os.getpid()}"
        temporary.symlink_to(target)
        temporary.rename(link)


def select_tools(names: Iterable[str] | None) -> list[Tool]:
    """The tools with these names; all of them for None."""
    if names is None:
        return list(TOOLS)
    known = {tool.name: tool for tool in TOOLS}
    unknown = sorted(set(names) - known.keys())
    if unknown:
        raise SystemExit(f"unknown tool: {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names]

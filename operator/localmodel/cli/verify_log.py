"""`localmodel verify-log`: whether a request log is as the gateway wrote it. Only reads files and prints what the check found."""

import sys
from dataclasses import dataclass
from pathlib import Path

from localmodel.cli.problems import Problem
from localmodel.gateway.chain import read_line
from localmodel.gateway.chain_check import ChainReport, check


@dataclass(frozen=True)
class VerifyOptions:
    files: tuple[Path, ...]
    key_file: Path | None = None
    running: bool = False
    expect: str | None = None
    """Hash of a line that was noted earlier."""


def verify_log(options: VerifyOptions) -> int:
    """0 if the log is whole, 1 if not. Raises Problem if a file can't be read or needs another key."""
    files = [(str(path), _read(path)) for path in _expand(options.files)]
    key = _read(options.key_file).rstrip(b"\r\n") if options.key_file else b""
    keyed = any(_says_keyed(data) for _, data in files)
    if keyed and not key:
        raise Problem("This log was made with a key. Give the same with --key-file.")
    report = check(files, key, running=options.running)
    if not report.chains:
        raise Problem("No line of a request log is in these files. Give what a gateway wrote: its output, or its requests-*.log.")
    for problem in report.problems:
        print(problem)
    for note in report.notes:
        print(f"note: {note}")
    if key and report.problems and not keyed:
        print("note: no line says that a key was used. If none was, leave out --key-file; if one was, this log was written anew.")
    for chain in report.chains:
        print(_summary(chain))
    missing = options.expect is not None and not any(f'"hash":"{options.expect}"}}'.encode() in data for _, data in files)
    if missing:
        print(f"The line with the hash {options.expect} is not in the files: the log was cut before it, or written anew.")
    bad = bool(report.problems) or missing
    print("The log is NOT as it was written." if bad else "The log is whole.")
    return 1 if bad else 0


def _expand(paths: tuple[Path, ...]) -> list[Path]:
    """A directory stands for the log files in it."""
    found = [file for path in paths for file in (sorted(path.glob("requests-*.log")) if path.is_dir() else [path])]
    if not found:
        raise Problem(f"There is no requests-*.log in {', '.join(map(str, paths))}.")
    return list(dict.fromkeys(found))


def _read(path: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise Problem(f"{path}: {error.strerror}.") from None


def _says_keyed(data: bytes) -> bool:
    """A log can lie about this only by claiming less than is checked: then its hashes don't fit."""
    lines = (read_line(raw) for raw in data.split(b"\n") if b"hmac-sha256" in raw)
    return any(line is not None and line.fields.get("hash_kind") == "hmac-sha256" for line in lines)


def _summary(chain: ChainReport) -> str:
    lost = f", {chain.lost} lost and said so" if chain.lost else ""
    end = "ended" if chain.ended else "open"
    return (
        f"chain {chain.chain} of {chain.pod or 'an unnamed pod'}: {chain.requests} requests in lines {chain.first} to "
        f"{chain.head.seq}{lost}, {end}; last hash {chain.head.hash}"
    )

"""`localmodel verify-log`: exit status and sentences, on files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from localmodel.cli.__main__ import main
from localmodel.gateway.chain import Chain

KEY = b"0123456789abcdef"


def write(file: Path, *, key: bytes = b"", end: bool = True) -> list[str]:
    """A log of two requests; returns the hashes."""
    chain = Chain("c1", key)
    kinds = ["request", "request", *(["end"] if end else [])]
    lines = [chain.append(json.dumps({"kind": "start", "pod": "p-1", "hash_kind": "hmac-sha256" if key else "sha256"}).encode())]
    lines += [chain.append(json.dumps({"kind": kind}).encode()) for kind in kinds]
    file.write_bytes(b"".join(lines))
    return [json.loads(line)["hash"] for line in lines]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    status = main(["verify-log", *map(str, arguments)])
    said = capsys.readouterr()
    return status, said.out + said.err


def test_a_whole_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hashes = write(tmp_path / "a.log")
    status, said = run(capsys, tmp_path / "a.log", "--expect", hashes[1])
    assert status == 0
    assert said == f"chain c1 of p-1: 2 requests in lines 0 to 3, ended; last hash {hashes[-1]}\nThe log is whole.\n"


def test_a_broken_log_names_file_and_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.log"
    write(file)
    file.write_bytes(file.read_bytes().replace(b'"kind": "request"', b'"kind": "Request"', 1))
    status, said = run(capsys, file)
    assert status == 1 and f"{file}:2: edited" in said and said.endswith("The log is NOT as it was written.\n")


def test_a_line_that_was_noted_earlier_is_missed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.log")
    status, said = run(capsys, tmp_path / "a.log", "--expect", "ab" * 32)
    assert status == 1 and "written anew" in said


def test_a_running_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.log", end=False)
    assert run(capsys, tmp_path / "a.log")[0] == 1
    assert run(capsys, tmp_path / "a.log", "--running")[0] == 0


def test_a_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.log", key=KEY)
    (tmp_path / "key").write_bytes(KEY + b"\n")
    assert run(capsys, tmp_path / "a.log", "--key-file", tmp_path / "key")[0] == 0
    status, said = run(capsys, tmp_path / "a.log")
    assert status == 2 and "--key-file" in said


def test_a_key_for_a_log_without_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Told, but not whole: whoever writes a log anew without the key leaves it out, too."""
    write(tmp_path / "a.log")
    (tmp_path / "key").write_bytes(KEY)
    status, said = run(capsys, tmp_path / "a.log", "--key-file", tmp_path / "key")
    assert status == 1 and "note: no line says that a key was used. If none was, leave out --key-file" in said


def test_a_reader_that_has_read_enough(tmp_path: Path) -> None:
    """`verify-log FILE | head -1`"""
    write(tmp_path / "a.log")
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "localmodel.cli", "verify-log", str(tmp_path / "a.log")]
    done = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    os.close(writer)
    assert done.stderr == "" and done.returncode == 141


def test_a_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "requests-000001.log")
    assert run(capsys, tmp_path)[0] == 0


@pytest.mark.parametrize("text", ["", "hello\n", "{}\n"])
def test_what_is_no_log_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    (tmp_path / "a.log").write_text(text)
    status, said = run(capsys, tmp_path / "a.log")
    assert status == 2 and "No line of a request log" in said


def test_a_missing_file_and_an_empty_directory_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, tmp_path / "b.log") == (2, f"{tmp_path / 'b.log'}: No such file or directory.\n")
    assert "There is no requests-*.log" in run(capsys, tmp_path)[1]

"""The log and its sinks: nobody waits, every lost record is counted and said in the chain, the chain holds throughout."""

import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from localmodel.gateway import log as log_module
from localmodel.gateway import sinks as sinks_module
from localmodel.gateway import targets
from localmodel.gateway.chain_check import Report, check
from localmodel.gateway.kept_answer import KeptAnswer
from localmodel.gateway.log import RecordLog
from localmodel.gateway.record import Bodies, Record, encode, encode_document, snapshot
from localmodel.gateway.redact import Redactor, TooCostly
from localmodel.gateway.sinks import Sink
from localmodel.gateway.targets import DescriptorTarget, FilesTarget, list_files


def record(number: int = 0, **fields: Any) -> Record:
    return Record(f"r{number}", "p", "n", "m", "1", outcome="ok", **fields)


def lines_of(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.split(b"\n") if line.startswith(b"{")]


def kinds(data: bytes) -> list[str]:
    return [line["kind"] for line in lines_of(data)]


def verified(*data: bytes) -> Report:
    report = check([(f"f{n}", each) for n, each in enumerate(data)])
    assert report.problems == []
    return report


def requests_in(report: Report) -> int:
    return sum(chain.requests for chain in report.chains)


def until(condition: Callable[[], Any]) -> None:
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit, "it never became true"
        time.sleep(0.005)


class Pipe:
    """A reader that can be told when to read."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.received = bytearray()
        self._thread = threading.Thread(target=self._drain, daemon=True)

    def read(self) -> None:
        self._thread.start()

    def _drain(self) -> None:
        while chunk := os.read(self.reader, 65536):
            self.received += chunk

    def finish(self) -> bytes:
        os.close(self.writer)
        self._thread.join()
        os.close(self.reader)
        return bytes(self.received)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    yield Pipe()


def test_records_are_gathered_until_there_are_many_or_large_ones_or_the_end_comes(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "_GATHER_SECONDS", 3600)
    monkeypatch.setattr(log_module, "_GATHERED", 5)
    pipe.read()
    records = RecordLog([Sink("stdout", DescriptorTarget(pipe.writer), {})], buffer_bytes=100_000)
    for number in range(5):
        records.put(record(number))
    until(lambda: pipe.received.count(b'"kind":"request"') == 5)
    records.put(record(5), b"x" * 20_000)
    until(lambda: pipe.received.count(b'"kind":"request"') == 6)
    records.put(record(6))
    records.close()
    assert kinds(pipe.finish()) == ["start", *["request"] * 7, "end"]


def test_a_record_alone_does_not_wait_for_others(pipe: Pipe) -> None:
    pipe.read()
    records = RecordLog([Sink("stdout", DescriptorTarget(pipe.writer), {})])
    records.put(record())
    until(lambda: b'"kind":"request"' in pipe.received)
    records.close()
    pipe.finish()


def test_every_record_is_a_line_between_start_and_end(pipe: Pipe) -> None:
    pipe.read()
    records = RecordLog([Sink("stdout", DescriptorTarget(pipe.writer), {"pod": "p"})])
    for number in range(50):
        records.put(record(number))
    records.close()
    data = pipe.finish()
    assert kinds(data) == ["start", *["request"] * 50, "end"]
    assert [line["request_id"] for line in lines_of(data)[1:-1]] == [f"r{number}" for number in range(50)]
    assert lines_of(data)[-1]["outcomes"] == {"ok": 50} and records.lost == {"stdout": 0}
    assert verified(data).chains[0].ended


def test_a_stalled_reader_costs_nobody_and_what_is_lost_is_said_at_its_place(pipe: Pipe) -> None:
    sink = Sink("stdout", DescriptorTarget(pipe.writer), {}, buffer_bytes=20_000)
    until(lambda: sink._opened)
    content = b'{"kind":"request","text":"' + b"x" * 200 + b'"}'
    began = time.monotonic()
    for _ in range(2000):
        sink.put([(content, "ok")])
    assert time.monotonic() - began < 20 and sink.lost > 0
    pipe.read()
    until(lambda: not sink._items)
    sink.put([(content, "ok")])
    sink.close(5)
    report = verified(pipe.finish())
    assert report.chains[0].requests + sink.lost == 2001 and report.chains[0].lost == sink.lost
    assert "lost" in kinds(bytes(pipe.received))


def test_the_buffer_before_the_sinks_is_bounded_too(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    hold = threading.Event()
    redactor = Redactor(())
    monkeypatch.setattr(redactor, "show", lambda bodies, ours: hold.wait() and [None] * len(bodies))
    pipe.read()
    records = RecordLog([Sink("stdout", DescriptorTarget(pipe.writer), {})], redactor, buffer_bytes=10_000)
    for number in range(20):
        records.put(record(number), b'{"a": "b"}')
    assert records.lost["stdout"] > 0
    hold.set()
    records.close()
    report = verified(pipe.finish())
    assert requests_in(report) + records.lost["stdout"] == 20 and report.chains[0].lost == records.lost["stdout"]


def test_a_reader_that_is_gone_is_counted(pipe: Pipe) -> None:
    os.close(pipe.reader)
    records = RecordLog([Sink("stdout", DescriptorTarget(pipe.writer), {})])
    for number in range(10):
        records.put(record(number))
    records.close()
    os.close(pipe.writer)
    assert records.lost == {"stdout": 10}


def test_closing_does_not_wait_for_ever(pipe: Pipe) -> None:
    records = RecordLog([Sink("stdout", DescriptorTarget(pipe.writer), {})])
    for number in range(500):
        records.put(record(number, served_name="x" * 1000))
    began = time.monotonic()
    records.close(0.3)
    assert time.monotonic() - began < 20
    pipe.read()
    until(lambda: kinds(bytes(pipe.received[: pipe.received.rfind(b"\n")])).count("request") + records.lost["stdout"] == 500)
    assert records.lost["stdout"] > 0


def test_a_checkpoint_seals_every_so_many_records_and_after_a_while(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks_module, "CHECKPOINT_RECORDS", 3)
    pipe.read()
    sink = Sink("stdout", DescriptorTarget(pipe.writer), {})
    for _ in range(3):
        sink.put([(b'{"kind":"request"}', "ok")])
    until(lambda: b'"checkpoint"' in pipe.received)
    monkeypatch.setattr(sinks_module, "CHECKPOINT_SECONDS", 0.05)
    sink.put([(b'{"kind":"request"}', "shed")])
    until(lambda: pipe.received.count(b'"checkpoint"') == 2)
    sink.close(5)
    last = lines_of(pipe.finish())[-2]
    assert last["kind"] == "checkpoint" and last["outcomes"] == {"ok": 3, "shed": 1} and last["records"] == 4


def files_log(directory: Path, *, max_bytes: int = 1 << 20, max_files: int = 3) -> tuple[RecordLog, Sink]:
    sink = Sink("file", FilesTarget(directory, max_bytes, max_files), {"pod": "p"})
    return RecordLog([sink]), sink


def verified_files(directory: Path) -> Report:
    return verified(*(file.read_bytes() for file in list_files(directory)))


def test_files_are_rotated_and_deleted_ones_are_explained(tmp_path: Path) -> None:
    records, sink = files_log(tmp_path, max_bytes=20_000)
    for number in range(200):
        records.put(record(number))
        if number % 10 == 0:
            until(lambda number=number: sink._written.total() == number + 1)
    records.close()
    files = list_files(tmp_path)
    assert len(files) == 3 and int(files[0].stem[-6:]) > 1
    assert all(file.stat().st_size <= 20_000 for file in files)
    report = verified_files(tmp_path)
    assert records.lost == {"file": 0} and report.chains[0].first > 0
    assert requests_in(report) < 200 and report.chains[0].head.seq > 200


def test_a_new_process_names_what_was_before(tmp_path: Path) -> None:
    for _ in range(2):
        records, _ = files_log(tmp_path)
        records.put(record())
        records.close()
    with list_files(tmp_path)[-1].open("ab") as file:
        file.write(b'{"chain":"half')
    records, _ = files_log(tmp_path)
    records.close()
    report = verified_files(tmp_path)
    assert len(report.chains) == 3 and requests_in(report) == 2
    list_files(tmp_path)[0].unlink()
    text = [str(problem) for problem in check([(file.name, file.read_bytes()) for file in list_files(tmp_path)]).problems]
    assert len(text) == 1 and "removed: the log before this one" in text[0]


class FullDisk:
    """os.write of a disk that is full at times, and may still take the beginning."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, takes: int = 10) -> None:
        self.full = False
        self._takes = takes
        self._write = os.write
        monkeypatch.setattr(targets.os, "write", self)

    def __call__(self, descriptor: int, data: memoryview) -> int:
        if not self.full:
            return self._write(descriptor, data)
        if len(data) > self._takes:
            if self._takes:
                written, self._takes = self._write(descriptor, data[: self._takes]), 0
                return written
            self._takes = 10
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("kind", ["file", "stdout"])
def test_a_full_disk_loses_records_says_so_and_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(sinks_module, "_RETRY_SECONDS", 0.0)
    disk = FullDisk(monkeypatch)
    with (tmp_path / "requests-000001.log").open("wb") if kind == "stdout" else (tmp_path / "unused").open("wb") as file:
        target = DescriptorTarget(file.fileno()) if kind == "stdout" else FilesTarget(tmp_path, 1 << 20, 3)
        sink = Sink(kind, target, {})
        sink.put([(b'{"kind":"request","n":1}', "ok")])
        until(lambda: sink._written.total() == 1)
        disk.full = True
        for lost in range(1, 6):
            sink.put([(b'{"kind":"request","n":2}', "ok")])
            until(lambda lost=lost: sink.lost == lost)
        disk.full = False
        sink.put([(b'{"kind":"request","n":3}', "ok")])
        sink.close(5)
    data = (tmp_path / "requests-000001.log").read_bytes()
    report = verified(data) if kind == "file" else check([("f0", data)])
    assert [line["n"] for line in lines_of(b"\n".join(x for x in data.split(b"\n") if x.endswith(b"}"))) if "n" in line] == [1, 3]
    assert report.chains[0].lost == sink.lost == 5 and report.chains[0].ended
    assert all("edited" not in str(problem) for problem in report.problems)


@pytest.mark.parametrize("kind", ["file", "stdout"])
def test_a_disk_that_is_full_in_the_midst_of_many_lines_breaks_no_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(sinks_module, "_RETRY_SECONDS", 0.0)
    with (tmp_path / "requests-000001.log").open("wb") if kind == "stdout" else (tmp_path / "unused").open("wb") as file:
        target = DescriptorTarget(file.fileno()) if kind == "stdout" else FilesTarget(tmp_path, 1 << 20, 3)
        disk = FullDisk(monkeypatch, takes=500)
        sink = Sink(kind, target, {})  # type: ignore[arg-type]
        until(lambda: sink._opened)
        disk.full = True
        sink.put([(b'{"kind":"request","n":1}', "ok")] * 9)
        until(lambda: sink.lost == 9)
        disk.full = False
        sink.put([(b'{"kind":"request","n":2}', "ok")])
        sink.close(5)
    report = check([("f0", (tmp_path / "requests-000001.log").read_bytes())])
    assert [str(problem) for problem in report.problems] == []
    assert (report.chains[0].requests, report.chains[0].lost, report.chains[0].ended) == (1, 9, True)


def test_a_directory_that_can_not_be_written_loses_records_until_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks_module, "_RETRY_SECONDS", 0.0)
    directory = tmp_path / "later"
    records, sink = files_log(directory)
    records.put(record(1))
    until(lambda: sink.lost == 1)
    directory.mkdir()
    records.put(record(2))
    records.close()
    report = verified_files(directory)
    assert report.chains[0].lost == 1 and requests_in(report) == 1


def test_one_stalled_sink_does_not_hold_the_other(pipe: Pipe, tmp_path: Path) -> None:
    stalled = Sink("stdout", DescriptorTarget(pipe.writer), {}, buffer_bytes=10_000)
    file = Sink("file", FilesTarget(tmp_path, 1 << 20, 3), {})
    records = RecordLog([stalled, file])
    for number in range(1000):
        records.put(record(number))
    until(lambda: file._written.total() == 1000)
    assert records.lost["file"] == 0 and records.lost["stdout"] > 0
    pipe.read()
    records.close()
    assert requests_in(verified_files(tmp_path)) == 1000
    assert requests_in(verified(pipe.finish())) + records.lost["stdout"] == 1000


def full(pipe: Pipe, redactor: Redactor) -> RecordLog:
    pipe.read()
    return RecordLog([Sink("stdout", DescriptorTarget(pipe.writer), {})], redactor)


def kept(*parts: bytes) -> KeptAnswer:
    answer = KeptAnswer()
    for part in parts:
        answer.add(part)
    return answer


def test_full_shows_both_bodies_redacted(pipe: Pipe) -> None:
    records = full(pipe, Redactor(("Phone",)))
    records.put(record(), b'{"m": "call 13800138000 \\ud83d"}', kept(b'{"a": "138001', b'38000"}'))
    records.close()
    line = lines_of(pipe.finish())[1]
    assert line["request_body"].startswith('{"m":"call [Phone] ') and line["response_body"] == '{"a":"[Phone]"}'
    assert line["request_body_cut"] == line["response_body_cut"] == 0 and line["withheld"] is None


@pytest.mark.parametrize("failure", [TooCostly(), RuntimeError("bug")])
def test_what_can_not_be_searched_is_withheld(pipe: Pipe, monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    redactor = Redactor(("Phone",))

    def fail(bodies: list[bytes], ours: list[bool]) -> list[str]:
        raise failure

    monkeypatch.setattr(redactor, "show", fail)
    records = full(pipe, redactor)
    records.put(record(), b'{"m": "secret"}', kept(b"{}"))
    records.close()
    data = pipe.finish()
    assert b"secret" not in data and lines_of(data)[1]["withheld"] and lines_of(data)[1]["outcome"] == "ok"


def test_an_answer_that_is_too_large_is_withheld(pipe: Pipe) -> None:
    records = full(pipe, Redactor(()))
    records.put(record(), b"{}", kept(b"x" * 9_000_000, b"x" * 9_000_000))
    records.close()
    line = lines_of(pipe.finish())[1]
    assert line["response_body"] is None and "larger" in line["withheld"]


def test_a_record_is_as_it_was_when_it_was_put(pipe: Pipe) -> None:
    records = full(pipe, Redactor(()))
    each = record(completion_tokens=3)
    records.put(each)
    each.completion_tokens = 4
    records.close()
    assert lines_of(pipe.finish())[1]["completion_tokens"] == 3


def test_without_sinks_nothing_happens() -> None:
    records = RecordLog()
    records.put(record())
    records.close()
    assert records.lost == {}


def test_a_record_is_written_as_a_json_encoder_would() -> None:
    each = record(stream=True, status=200, served_name='a "b"\n\u4f60\ud800', queue_seconds=0.12345678, bytes_in=5)
    bodies = Bodies(request_body="x", withheld="y")
    for written, parts in ((encode(snapshot(each)), [each]), (encode(snapshot(each), bodies), [each, bodies])):
        document = {"kind": "request"}
        for part in parts:
            document |= structs.asdict(part)
        assert written == encode_document(document | {"queue_seconds": 0.123457})

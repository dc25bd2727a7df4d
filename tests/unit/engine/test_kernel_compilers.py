"""Kernels that other processes compile for the engine, without a card; and what becomes of them where such a process fails."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # as test_card_kernels, which may run later in this process

from engine_runs import compile_in_another
from localmodel.engine import kernel_compilers
from localmodel.engine.interpreter import NoInterpreter, environment
from localmodel.engine.kernel_compiler import nothing_is_compiled
from localmodel.engine.kernel_compilers import Compilers, describe


@pytest.mark.parametrize(
    ("bits", "some"),
    [
        (16, {"_row_kernel", "_decode_kernel", "_add_rms_norm_kernel"}),
        (8, {"product_kernel", "sum_tiles_kernel", "_chunk_kernel", "_row8_planes_kernel"}),
        (4, {"product_kernel", "sum_tiles_kernel", "_row4_planes_kernel", "_rows_kernel", "_sum_kernel"}),
    ],
)
def test_the_engine_finds_all_that_another_process_compiled(bits, some, tmp_path):
    """That process has no torch: what it thinks of a kernel must be what the engine thinks, to the last letter."""
    found = compile_in_another(Path(__file__).with_name("compile_ahead.py"), tmp_path, str(bits), "2")
    assert {name for name, _ in found} >= some
    assert [name for name, is_there in found if is_there != "True"] == []


class Source:
    def __init__(self, kernel, signature, constants, attributes):
        self.signature, self.constants, self.attrs = signature, constants, attributes
        self.fn = SimpleNamespace(fn=kernel)


def asked(kernel=Source, target="no card"):
    """As Triton asks for it."""
    src, options = Source(kernel, {}, {}, {}), SimpleNamespace(number=1)

    def compile():
        return src, target, options

    return compile


def test_only_what_triton_asks_for_is_described():
    job = describe(asked())
    assert (job.source, job.module, job.name) == (Source, __name__, "Source")
    assert (job.target, job.options) == ("no card", {"number": 1})
    assert [describe(other) for other in (lambda: None, partial(asked), print)] == [None] * 3


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "kernels"))
    return tmp_path / "kernels"


def children(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def compile_each(compilers, count):
    """One after another: each waits until the processes are there."""
    for _ in range(count):
        compilers.compile(asked())


def test_what_a_process_can_not_compile_keeps_it_from_nothing(cache, capfd):
    compilers = Compilers(1)
    compile_each(compilers, 2)
    assert not compilers._idle.empty()
    compilers.close()
    assert compilers._process.returncode == 0, "it ended by itself"
    assert capfd.readouterr().err.count("a kernel is compiled later, because: ") == 2


def test_a_process_that_died_is_not_asked_again_and_the_others_are(cache):
    compilers = Compilers(2)
    compile_each(compilers, 2)
    os.kill(int(children(compilers._process.pid)[0]), signal.SIGKILL)
    compile_each(compilers, 4)
    assert compilers._idle.qsize() == 1
    compilers.close()
    assert compilers._process.returncode == 0


def test_one_that_does_not_end_is_ended_with_all_it_started(cache, monkeypatch):
    monkeypatch.setattr(kernel_compilers, "END_SECONDS", 0.2)
    compilers = Compilers(2)
    compile_each(compilers, 2)
    started = children(compilers._process.pid)
    assert len(started) == 2
    os.kill(int(started[0]), signal.SIGSTOP)
    compilers.close()
    assert compilers._process.returncode == -signal.SIGKILL
    until = time.monotonic() + 10
    while any(Path(f"/proc/{pid}/exe").exists() for pid in started):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_one_that_hangs_is_not_waited_for(cache, monkeypatch):
    compilers = Compilers(1)
    compile_each(compilers, 1)
    os.kill(int(children(compilers._process.pid)[0]), signal.SIGSTOP)
    compilers._sockets[0].settimeout(0.2)
    compile_each(compilers, 2)
    assert compilers._idle.empty()
    monkeypatch.setattr(kernel_compilers, "END_SECONDS", 0.2)
    compilers.close()


def test_they_end_with_the_engine(cache):
    code = """
import os
from localmodel.engine.kernel_compilers import Compilers
compilers = Compilers(2)
print(compilers._process.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    until = time.monotonic() + 20
    while Path(f"/proc/{int(done.stdout)}/exe").exists():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_what_can_not_be_sent_is_compiled_in_the_engine(cache, capfd):
    compilers = Compilers(1)
    compilers.compile(asked(target=lambda: None))
    compilers.close()
    assert "a kernel is compiled in the engine, because: " in capfd.readouterr().err


def test_where_no_process_can_be_started_that_is_said(monkeypatch, capsys):
    def find():
        raise NoInterpreter("none here")

    monkeypatch.setattr(kernel_compilers, "find_interpreter", find)
    compilers = Compilers(4)
    compilers.compile(asked())
    compilers.close()
    assert "kernels are compiled in the engine, because: none here" in capsys.readouterr().err


def test_they_end_at_once_where_something_is_compiled(cache, capfd):
    (cache / "ABC").mkdir(parents=True)
    (cache / "ABC" / "kernel.cubin").touch()
    compilers = Compilers(2)
    assert compilers._process.wait(30) == 0
    compile_each(compilers, 2)
    compilers.close()
    assert capfd.readouterr().err == ""


def test_only_kernels_count_as_compiled(tmp_path, monkeypatch):
    """Triton's own helpers are compiled by the engine at any moment."""
    from triton import knobs

    monkeypatch.setattr(knobs.cache, "dir", str(tmp_path / "kernels"))
    assert nothing_is_compiled()
    (tmp_path / "kernels" / "ABC").mkdir(parents=True)
    (tmp_path / "kernels" / "ABC" / "cuda_utils.so").touch()
    assert nothing_is_compiled()
    (tmp_path / "kernels" / "ABC" / "kernel.cubin").touch()
    assert not nothing_is_compiled()

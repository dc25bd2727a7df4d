"""Kernels that other processes compile for the engine, without a card; and what becomes of them where such a process fails."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # as test_card_kernels, which may run later in this process

from engine_runs import compile_in_another
from localmodel.engine import kernel_compilers
from localmodel.engine.interpreter import NoInterpreter, environment
from localmodel.engine.kernel_compiler import DONE
from localmodel.engine.kernel_compilers import Compilers, describe, nothing_is_compiled


def test_the_engine_finds_all_that_another_process_compiled(tmp_path):
    """That process has no torch: what it thinks of a kernel must be what the engine thinks, to the last letter."""
    found = compile_in_another(Path(__file__).with_name("compile_ahead.py"), tmp_path, "8", "2")
    assert {name for name, _ in found} >= {"product_kernel", "_chunk_kernel", "_row8_planes_kernel", "_add_rms_norm_kernel"}
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
    assert describe(lambda: None) is None


@pytest.fixture
def compilers():
    made = Compilers(1)
    yield made
    made.close()
    assert made._processes[0].returncode is not None


def test_what_a_process_can_not_compile_keeps_it_from_nothing(capfd):
    compilers = Compilers(1)
    for _ in range(2):
        compilers.compile(asked())
    assert not compilers._idle.empty()
    compilers.close()
    assert capfd.readouterr().err.count("a kernel is compiled later, because: ") == 2


def test_a_process_that_died_is_not_asked_again(compilers):
    compilers._processes[0].kill()
    compilers._processes[0].wait()
    for _ in range(2):
        compilers.compile(asked())
    assert compilers._idle.empty()


def test_what_can_not_be_sent_is_compiled_in_the_engine(compilers, capfd):
    compilers.compile(asked(target=lambda: None))
    assert "a kernel is compiled in the engine, because: " in capfd.readouterr().err


def test_where_no_process_can_be_started_that_is_said(monkeypatch, capsys):
    def find():
        raise NoInterpreter("none here")

    monkeypatch.setattr(kernel_compilers, "find_interpreter", find)
    compilers = Compilers(4)
    compilers.compile(asked())
    compilers.close()
    assert "kernels are compiled by 0 processes, because: none here" in capsys.readouterr().err


def test_it_ends_with_its_input_and_prints_nothing_among_its_answers():
    command = [sys.executable, "-P", "-m", "localmodel.engine.kernel_compiler"]
    done = subprocess.run(command, input=b"", env=environment(), capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, b"")
    assert len(DONE) == 1


def test_processes_are_started_for_an_empty_cache_only(tmp_path, monkeypatch):
    from triton import knobs

    monkeypatch.setattr(knobs.cache, "dir", str(tmp_path / "kernels"))
    assert nothing_is_compiled()
    (tmp_path / "kernels").mkdir()
    assert nothing_is_compiled()
    (tmp_path / "kernels" / "ABC").mkdir()
    assert not nothing_is_compiled()

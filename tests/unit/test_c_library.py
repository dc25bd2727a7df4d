"""Libraries in C: what is loaded, and what is told about one that can't be used."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from localmodel import c_library
from localmodel.engine import cpu_kernels
from localmodel.gateway import body_search

NUMBER = ctypes.c_int64
FORMS = {"twice": ([NUMBER], NUMBER)}
ROOT = Path(__file__).resolve().parents[2]


def build(folder: Path, source: str) -> None:
    (folder / "twice.c").write_text(source)
    command = ["cc", "-shared", "-fPIC", str(folder / "twice.c"), "-o", str(folder / "_twice.any.so")]
    try:
        subprocess.run(command, check=True)
    except FileNotFoundError:
        pytest.skip("no C compiler")


def test_a_function_takes_and_gives_what_was_declared(tmp_path: Path) -> None:
    build(tmp_path, "long long localmodel_twice(long long number) { return 2 * number; }")
    library, absence = c_library.load(tmp_path, "_twice", FORMS)
    assert library is not None and absence == ""
    assert library.localmodel_twice(3 << 40) == 6 << 40, "not cut to 32 bits"


def test_nothing_there_was_not_built(tmp_path: Path) -> None:
    assert c_library.load(tmp_path, "_twice", FORMS) == (None, "the wheel was made without a C compiler")


def test_a_library_of_an_older_form_counts_as_not_built(tmp_path: Path) -> None:
    build(tmp_path, "int localmodel_thrice(void) { return 3; }")
    library, absence = c_library.load(tmp_path, "_twice", FORMS)
    assert library is None
    assert "_twice.any.so" in absence and "localmodel_twice" in absence and "make venv" in absence and "\n" not in absence


def test_a_library_of_another_processor_is_named(tmp_path: Path) -> None:
    (tmp_path / "_twice.any.so").write_bytes(b"of another processor")
    library, absence = c_library.load(tmp_path, "_twice", FORMS)
    assert library is None and "_twice.any.so can't be loaded" in absence


@pytest.mark.parametrize(("package", "module"), [("engine", "cpu_kernels"), ("gateway", "body_search")])
def test_engine_and_gateway_start_without_what_is_too_old(tmp_path: Path, package: str, module: str) -> None:
    """The real modules, with a library beside them that has none of their functions."""
    code = tmp_path / "localmodel" / package
    code.mkdir(parents=True)
    for path in (ROOT / "operator" / "localmodel" / package).glob("*.py"):
        (code / path.name).write_text(path.read_text())
    build(tmp_path, "int localmodel_thrice(void) { return 3; }")
    (tmp_path / "_twice.any.so").rename(code / f"_{module}.any.so")
    program = f"import localmodel; localmodel.__path__.insert(0, {str(code.parent)!r})\n"
    program += f"from localmodel.{package} import {module}; print({module}.__file__, {module}.built(), {module}.absence())"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={"PYTHONPATH": str(ROOT / "operator")}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{code / module}.py False _{module}.any.so was built from other code"), done.stdout


def test_what_was_built_says_nothing() -> None:
    for module in (cpu_kernels, body_search):
        assert module.built() == (module.absence() == "")

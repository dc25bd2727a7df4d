"""How to start another Python that sees the same packages, from inside a Python that is no program.

Why it exists: Triton's stub carries Python as a library, so sys.executable is not one, and what makes packages found there (a
.pth file, a changed sys.path, LOCALMODEL_PYTHONPATH) is not what makes them found by a plain interpreter.
"""

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path


class NoInterpreter(Exception):
    """None of this version was found; the message names where."""


def find_interpreter() -> str:
    """The program of the running version. Raises NoInterpreter."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    places = list(dict.fromkeys(_places(name)))
    for place in places:
        if Path(place).name.startswith("python") and os.access(place, os.X_OK):
            return place
    raise NoInterpreter(f"no {name} to start further processes with; looked for {', '.join(places)}")


def _places(name: str) -> Iterator[str]:
    if sys.executable:
        yield sys.executable
    for folder in (sysconfig.get_config_var("BINDIR"), f"{sys.base_prefix}/bin", f"{sys.base_exec_prefix}/bin"):
        if folder:
            yield f"{folder}/{name}"
    if found := shutil.which(name):
        yield found


def environment() -> dict[str, str]:
    """In which that program finds the same packages, in the same order."""
    folders = [folder for folder in sys.path if folder and Path(folder).exists()]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}

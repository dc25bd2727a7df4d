"""Loads a library in C that was built with the wheel.

Why it exists: gateway and engine each have one, both optional, and must not import each other. A library of an older form counts
as not built, because what is called would not be there. It must not know what any of them computes.
"""

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

PREFIX = "localmodel_"

Forms = Mapping[str, tuple[list[Any], Any]]
"""By name without PREFIX: ctypes of its arguments, and of its result or None."""


class Loaded(NamedTuple):
    library: ctypes.CDLL | None
    absence: str
    """Why there is none and what to do about it, for the log."""


def load(folder: Path, name: str, forms: Forms) -> Loaded:
    """`name`.*.so of `folder`, if it can be loaded and has all functions of `forms`, which are then declared."""
    absence = "the wheel was made without a C compiler"
    for path in sorted(folder.glob(f"{name}.*.so")):
        try:
            library = ctypes.CDLL(str(path))
            for function, (arguments, result) in forms.items():
                declared = getattr(library, PREFIX + function)
                declared.argtypes, declared.restype = arguments, result
        except OSError as error:  # of another processor, or without OpenMP
            absence = f"{path.name} can't be loaded ({error})"
        except AttributeError as error:
            absence = f"{path.name} was built from other code than this ({error}); make the wheel again, or run `make venv`"
        else:
            return Loaded(library, "")
    return Loaded(None, absence)

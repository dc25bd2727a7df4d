"""What files import, and what they import in turn, found without running any: a machine with a card and no network should say
at once what it lacks, not in the midst of its first test.

It reads sources only; what is imported by a computed name it can't see.
"""

import ast
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [ROOT / "operator", ROOT / "tests", ROOT / "tests" / "bench", ROOT / "hack"]
"""Where modules of our own lie."""


def needed(files: Iterable[Path]) -> dict[str, Path]:
    """Packages of others that `files` and the modules of ours behind them import, each with a file that does.

    Imports under `if TYPE_CHECKING`, and those in a `try`, are not needed.
    """
    found: dict[str, Path] = {}
    seen: set[Path] = set()
    left = list(files)
    while left:
        file = left.pop()
        if file in seen:
            continue
        seen.add(file)
        for name in _imports(ast.parse(file.read_text())):
            ours = _files_of(name)
            left += ours
            top = name.partition(".")[0]
            if not ours and top not in sys.stdlib_module_names and not _is_ours(top):
                found.setdefault(top, file)
    return dict(sorted(found.items()))


def _imports(node: ast.AST) -> list[str]:
    """Dotted names; of `from a import b` both a and a.b, which may be a module."""
    if isinstance(node, ast.Try) or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
        return []
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for child in ast.iter_child_nodes(node) for name in _imports(child)]


def _files_of(name: str) -> list[Path]:
    path = Path(*name.split("."))
    places = [source / path for source in SOURCES]
    found = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()]
    return found[:1]


def _is_ours(top: str) -> bool:
    return any((source / top).is_dir() or (source / f"{top}.py").is_file() for source in SOURCES)

"""The one generator: writes every file that is derived from the code, or with --check says which are stale.

Two sources for one fact drift apart; a generated file with a check cannot. This module only collects, writes and compares:
what a file contains is decided by `outputs()` of the modules in hack/generators.
"""

import argparse
import importlib
import pkgutil
import sys
from pathlib import Path

import generators

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "operator"))  # so that it runs in a checkout where the package is not installed
COMMAND = "python hack/generate.py"


def collect_outputs() -> dict[str, str]:
    """Text by path, of all modules in hack/generators. Two modules may not claim one path."""
    texts: dict[str, str] = {}
    for info in sorted(pkgutil.iter_modules(generators.__path__), key=lambda info: info.name):
        for path, text in importlib.import_module(f"generators.{info.name}").outputs().items():
            if path in texts:
                raise ValueError(f"{path} is generated twice, the second time by hack/generators/{info.name}.py")
            texts[path] = text
    return texts


def find_stale(texts: dict[str, str], root: Path) -> list[str]:
    """Paths whose file is missing or has another text."""
    return [path for path, text in texts.items() if not (root / path).is_file() or (root / path).read_bytes() != text.encode()]


def write_outputs(texts: dict[str, str], root: Path) -> list[str]:
    """Writes what is stale and returns those paths: an unchanged file keeps its time stamp."""
    stale = find_stale(texts, root)
    for path in stale:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(texts[path].encode())
    return stale


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="change nothing; fail and name the files that are stale")
    check = parser.parse_args(arguments).check
    texts = collect_outputs()
    if not check:
        for path in write_outputs(texts, ROOT):
            print(f"wrote {path}")
        return 0
    stale = find_stale(texts, ROOT)
    for path in stale:
        print(f"stale: {path}", file=sys.stderr)
    if stale:
        print(f"run `{COMMAND}` and commit what it writes", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())

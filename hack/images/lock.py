"""Takes requirements out of a lock file, hashes and all.

Exists because one lock serves several installs: the CPU image leaves CUDA's packages out of engine.txt, and Triton and
setuptools are single entries of larger locks. Must not change an entry: pip checks the hashes of what is left.

    python3 -m images.lock hack/locks/all.txt --only nvidia-pytriton
    python3 -m images.lock hack/locks/engine.txt --without triton,cuda-*
"""

import argparse
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path


def parse_lock(text: str) -> dict[str, str]:
    """Package name to the whole of its entry."""
    entries: dict[str, str] = {}
    name = ""
    for line in text.splitlines(keepends=True):
        if found := re.match(r"([A-Za-z0-9][A-Za-z0-9._-]*)(\[[^]]*\])?==", line):
            name = found[1].lower()
            entries[name] = line
        elif name and line.startswith(" "):
            entries[name] += line
    return entries


def select(entries: dict[str, str], only: list[str], without: list[str]) -> Iterator[str]:
    """Entries that match a pattern of `only`, or all but those of `without`; `!name` in `without` keeps that one."""
    if missing := [name for name in only if name not in entries]:
        raise SystemExit(f"not in the lock: {', '.join(missing)}")
    kept = {pattern.removeprefix("!") for pattern in without if pattern.startswith("!")}
    for name, entry in entries.items():
        dropped = name not in kept and any(fnmatchcase(name, pattern) for pattern in without)
        if name in only if only else not dropped:
            yield entry


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lock", type=Path)
    parser.add_argument("--only", default="", help="comma-separated names")
    parser.add_argument("--without", default="", help="comma-separated name patterns; !name makes an exception")
    arguments = parser.parse_args()
    only, without = (list(filter(None, text.split(","))) for text in (arguments.only, arguments.without))
    print("".join(select(parse_lock(arguments.lock.read_text()), only, without)), end="")


if __name__ == "__main__":
    main()

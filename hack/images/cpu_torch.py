"""Turns PyPI's CUDA build of torch into one that only computes on the CPU: 5.3 GB become 0.45.

Exists because no package registry but PyPI may be reachable and PyPI's x86-64 torch is the CUDA build. What torch's
libraries need from libtorch_cuda and from CUDA is read from them, and small stub libraries that define just that take
their place; libcudart stays real, because it answers "no device" properly. Runs in an image build, on a folder made by
`pip install --target`. Must not be used where a GPU is: stubbed functions do nothing, and C++ ones don't even report an error.
"""

import ctypes
import re
import shutil
import subprocess
import sys
from pathlib import Path

from images import elf

STUBBED = "libtorch_cuda.so"
ROOTS = ("libtorch_python.so", "libtorch_global_deps.so")
CUDA_LIBRARY = re.compile(r"lib(cu|nv|nccl)")
SAYS_CPU = (
    ("torch/version.py", re.compile(r"(?m)^(cuda: .*) = .*$"), r"\1 = None"),
    ("torch/backends/cuda/__init__.py", re.compile(r"return torch\._C\._has_cuda"), "return False"),
)
"""Where torch's Python looks up whether it was built with CUDA; it would otherwise override CUDA kernels at import."""
UNUSED = (
    "torch/include",
    "torch/test",
    "torch/share",
    "torch/bin/protoc*",
    "torch/lib/*.a",
    "nvidia/*/*/*.a",
    "nvidia/*/include",
)
UNUSED_TESTS = ("sympy/**/tests", "networkx/**/tests", "numpy/**/tests")


def closure(roots: tuple[str, ...], needed: dict[str, list[str]], *, opaque: str) -> set[str]:
    """The libraries in `needed` that the roots reach, not looking into `opaque`."""
    reached: set[str] = set()
    queue = list(roots)
    while queue:
        library = queue.pop()
        if library in needed and library not in reached:
            reached.add(library)
            queue += [] if library == opaque else needed[library]
    return reached


def plan_stubs(
    undefined: list[tuple[elf.Symbol, str]], sonames: set[str], replaced: dict[str, elf.Symbol]
) -> dict[str, set[elf.Symbol]]:
    """Which symbols each stub has to define.

    `undefined` pairs each symbol that nothing else defines with the soname that its version belongs to, or "". One
    without a version belongs to what is replaced if that had it, else to each library that doesn't version its symbols.
    """
    stubs: dict[str, set[elf.Symbol]] = {soname: set() for soname in sonames}
    stubs[STUBBED] = set()
    unplaced = set()
    for symbol, soname in undefined:
        if soname in stubs:
            stubs[soname].add(symbol)
        elif symbol.name in replaced:
            stubs[STUBBED].add(replaced[symbol.name])
        elif not symbol.weak:
            unplaced.add(symbol)
    for soname, symbols in stubs.items():
        if not symbols and soname != STUBBED:
            symbols |= unplaced
    return stubs


def read_undefined(path: Path, symbols: list[elf.Symbol]) -> list[tuple[elf.Symbol, str]]:
    files = elf.parse_version_files(elf.readelf("--version-info", path))
    return [(symbol, files.get(symbol.version, "")) for symbol in symbols if not symbol.defined and symbol.name]


def replace_cuda(packages: Path) -> dict[str, int]:
    """Replaces and removes libraries in `packages`; the number of symbols in each stub."""
    folder = packages / "torch" / "lib"
    real = {path.name: path for pattern in ("torch/lib/*.so*", "nvidia/*/lib/*.so*") for path in packages.glob(pattern)}
    needed = {name: elf.parse_needed(elf.readelf("--dynamic", path)) for name, path in real.items()}
    kept = closure(ROOTS, needed, opaque=STUBBED) - {STUBBED}
    symbols = {name: elf.parse_symbols(elf.readelf("--dyn-syms", path)) for name, path in real.items()}
    replaced = {symbol.name: symbol for name in symbols.keys() - kept for symbol in symbols[name] if symbol.defined}
    defined = {symbol.name for name in kept for symbol in symbols[name] if symbol.defined}

    outside = {soname for name in kept for soname in needed[name]} - kept - {STUBBED}
    missing = {soname for soname in outside if CUDA_LIBRARY.match(soname)}
    system = [ctypes.CDLL(None), *(ctypes.CDLL(soname) for soname in outside - missing)]
    undefined = [
        (symbol, soname)
        for name in kept
        for symbol, soname in read_undefined(real[name], symbols[name])
        if symbol.name not in defined and not any(hasattr(library, symbol.name) for library in system)
    ]
    stubs = plan_stubs(undefined, missing, replaced)

    for name in real.keys() - kept:
        real[name].unlink()
    for soname, wanted in stubs.items():
        elf.build_stub(soname, wanted, folder / soname)
    for name in kept:
        subprocess.run(["strip", "--strip-unneeded", real[name]], check=True)
    return {soname: len(wanted) for soname, wanted in sorted(stubs.items())}


def say_cpu(packages: Path) -> None:
    for name, pattern, replacement in SAYS_CPU:
        path = packages / name
        text, count = pattern.subn(replacement, path.read_text())
        if count != 1:
            raise SystemExit(f"{name}: expected {pattern.pattern!r} once, found it {count} times: has torch changed?")
        path.write_text(text)


def remove_unused(packages: Path) -> None:
    for pattern in (*UNUSED, *UNUSED_TESTS):
        for path in list(packages.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def main() -> None:
    packages = Path(sys.argv[1])
    print("stubs:", replace_cuda(packages))
    say_cpu(packages)
    remove_unused(packages)


if __name__ == "__main__":
    main()

"""What a shared library defines and asks for, and assembly that stands in for one that is left out.

Exists for cpu_torch: PyPI's torch is linked against CUDA libraries that a machine without a GPU never calls.
Must not know torch or any library by name. Needs binutils (`readelf`, `as`, `ld`), not a compiler; x86-64 only.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MANGLED, TYPEINFO, CLASS_TYPEINFO = "_Z", "_ZTI", "_ZTVN10__cxxabiv117__class_type_infoE"
CONSTRUCTOR = re.compile(r"C[12]E")
CPLUSPLUS_COMMON = f"""\
.local scratch; .comm scratch,4096,4096
.text; virtual: leaq scratch(%rip),%rax; ret
.data; .balign 32; typeinfo: .quad {CLASS_TYPEINFO}+16, 1f; 1: .asciz "stub"
.balign 32; vtable: .quad 0, typeinfo; .rept 64; .quad virtual; .endr"""


@dataclass(frozen=True)
class Symbol:
    name: str
    version: str
    kind: str
    size: int
    defined: bool
    weak: bool


def parse_symbols(readelf_output: str) -> list[Symbol]:
    """The rows of `readelf --wide --dyn-syms`."""
    symbols = []
    for line in readelf_output.splitlines():
        fields = line.split()
        if len(fields) < 8 or not fields[0].rstrip(":").isdigit():
            continue
        name, _, version = fields[7].partition("@")
        symbols.append(Symbol(name, version.lstrip("@"), fields[3], int(fields[2], 0), fields[6] != "UND", fields[4] == "WEAK"))
    return symbols


def parse_needed(readelf_output: str) -> list[str]:
    """The sonames of `readelf --wide --dynamic`, in order."""
    return re.findall(r"\(NEEDED\).*\[(.+)\]", readelf_output)


def parse_version_files(readelf_output: str) -> dict[str, str]:
    """From `readelf --wide --version-info`: which soname each needed symbol version comes from."""
    files, current = {}, ""
    for line in readelf_output.splitlines():
        if found := re.search(r"\bFile: (\S+)", line):
            current = found[1]
        elif current and (found := re.search(r"\bName: (\S+)\s+Flags:", line)):
            files[found[1]] = current
    return files


def readelf(option: str, path: Path) -> str:
    command = ["readelf", "--wide", option, str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def symbol_assembly(symbol: Symbol) -> str:
    """One definition. Data is zeros of the same size; a C++ typeinfo has its real name, as classes go by it.

    A C function returns 1, which a library with status codes reads as an error. A C++ function returns the address of
    a zeroed, page-aligned page: a valid reference where one is expected, and false where a bool is. A constructor
    makes an object without data whose virtual functions do the same.
    """
    name = symbol.name
    if symbol.kind == "OBJECT":
        head = f".data; .balign 32; .globl {name}; .type {name},@object; {name}:"
        mangled = name.removeprefix(TYPEINFO)
        if mangled == name:
            return f"{head} .zero {max(symbol.size, 8)}; .size {name},.-{name}"
        return f'{head} .quad {CLASS_TYPEINFO}+16, 1f; .size {name},.-{name}; 1: .asciz "{mangled}"'
    head = f".text; .globl {name}; .type {name},@function; {name}:"
    if not name.startswith(MANGLED):
        return f"{head} movl $1,%eax; ret; .size {name},.-{name}"
    construct = "leaq vtable+16(%rip),%rax; movq %rax,(%rdi); " if CONSTRUCTOR.search(name) else ""
    return f"{head} {construct}leaq scratch(%rip),%rax; ret; .size {name},.-{name}"


def stub_source(symbols: Iterable[Symbol]) -> str:
    """Assembly of a library that defines just these symbols."""
    symbols = sorted(symbols, key=lambda symbol: symbol.name)
    lines = ['.section .note.GNU-stack,"",@progbits', *map(symbol_assembly, symbols)]
    if any(symbol.name.startswith(MANGLED) for symbol in symbols):
        lines.append(CPLUSPLUS_COMMON)
    return "\n".join([*lines, ""])


def version_script(symbols: Iterable[Symbol]) -> str:
    """A linker script that gives each symbol the version it is asked for with; empty if none has one."""
    by_version: dict[str, list[str]] = {}
    for symbol in symbols:
        if symbol.version:
            by_version.setdefault(symbol.version, []).append(symbol.name)
    blocks = (f"{version} {{ global: {'; '.join(sorted(names))}; }};" for version, names in sorted(by_version.items()))
    return "\n".join(blocks)


def build_stub(soname: str, symbols: Iterable[Symbol], destination: Path) -> None:
    symbols = list(symbols)
    with tempfile.TemporaryDirectory() as folder:
        source, script, compiled = (Path(folder, name) for name in ("stub.s", "stub.map", "stub.o"))
        source.write_text(stub_source(symbols))
        script.write_text(version_script(symbols))
        subprocess.run(["as", "-o", compiled, source], check=True)
        link = ["ld", "-shared", "-z", "noexecstack", "--soname", soname, "-o", destination, compiled]
        if script.stat().st_size:
            link += ["--version-script", script]
        subprocess.run(link, check=True)

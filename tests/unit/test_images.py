"""hack/images: tags, locks, Dockerfiles, and the libraries that stand in for CUDA."""

import ctypes
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from images import catalogue, cpu_torch, elf, lent_sources, lock, registry
from images.store import Store

ROOT = catalogue.REPOSITORY
SYMBOLS = """
Symbol table '.dynsym' contains 5 entries:
   Num:    Value          Size Type    Bind   Vis      Ndx Name
     0: 0000000000000000     0 NOTYPE  LOCAL  DEFAULT  UND
     1: 0000000000000000     0 FUNC    GLOBAL DEFAULT  UND cuptiFinalize@libcupti.so.13 (7)
     2: 0000000000000000     0 NOTYPE  WEAK   DEFAULT  UND __gmon_start__
     3: 0000000000001139    11 FUNC    GLOBAL DEFAULT   14 answer@@V1
     4: 0000000000004010 0x1bcf48 OBJECT GLOBAL DEFAULT   25 table
"""
VERSIONS = """
Version needs section '.gnu.version_r' contains 2 entries:
 Addr: 0x0000000000752d08  Offset: 0x00752d08  Link: 33 (.dynstr)
  000000: Version: 1  File: libcupti.so.13  Cnt: 1
  0x0010:   Name: libcupti.so.13  Flags: none  Version: 7
  0x0020: Version: 1  File: libc.so.6  Cnt: 2
  0x0030:   Name: GLIBC_2.3  Flags: none  Version: 51
  0x0040:   Name: GLIBC_2.14  Flags: none  Version: 4
"""
LOCK = """\
# a comment
torch==2.15.0 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
nvidia-cuda-runtime==13.2.86 \\
    --hash=sha256:cc
nvidia-cublas==13.4.1.3 ; sys_platform == 'linux' \\
    --hash=sha256:dd
triton==3.9.0 \\
    --hash=sha256:ee
"""


def symbol(name: str, *, version: str = "", kind: str = "FUNC", size: int = 0, weak: bool = False) -> elf.Symbol:
    return elf.Symbol(name, version, kind, size, defined=False, weak=weak)


def test_symbols_carry_version_size_and_whether_they_are_defined():
    parsed = {row.name: row for row in elf.parse_symbols(SYMBOLS)}
    assert parsed["cuptiFinalize"] == elf.Symbol("cuptiFinalize", "libcupti.so.13", "FUNC", 0, False, False)
    assert parsed["__gmon_start__"].weak
    assert parsed["answer"] == elf.Symbol("answer", "V1", "FUNC", 11, True, False)
    assert parsed["table"].size == 0x1BCF48


def test_each_needed_version_has_its_file():
    assert elf.parse_version_files(VERSIONS) == {
        "libcupti.so.13": "libcupti.so.13",
        "GLIBC_2.3": "libc.so.6",
        "GLIBC_2.14": "libc.so.6",
    }


def test_needed_libraries_in_order():
    text = " 0x1 (NEEDED)  Shared library: [libb.so.1]\n 0x1 (NEEDED)  Shared library: [liba.so]\n 0xf (RPATH)  [x]\n"
    assert elf.parse_needed(text) == ["libb.so.1", "liba.so"]


def test_what_only_the_replaced_library_needs_is_not_kept():
    needed = {"root": ["cpu", "cuda"], "cpu": ["core", "libc.so.6"], "cuda": ["linalg"], "linalg": [], "core": ["root"]}
    assert cpu_torch.closure(("root",), needed, opaque="cuda") == {"root", "cpu", "cuda", "core"}


def test_a_symbol_goes_to_the_stub_it_is_asked_of():
    versioned, plain = symbol("cuptiFinalize", version="libcupti.so.13"), symbol("cuFileRead")
    replaced = {"_ZTI1A": symbol("_ZTI1A", kind="OBJECT", size=24)}
    undefined = [(versioned, "libcupti.so.13"), (plain, ""), (symbol("_ZTI1A"), ""), (symbol("gone", weak=True), "")]
    stubs = cpu_torch.plan_stubs(undefined, {"libcupti.so.13", "libcufile.so.0"}, replaced)
    assert stubs == {
        "libcupti.so.13": {versioned},
        "libcufile.so.0": {plain},
        cpu_torch.STUBBED: {replaced["_ZTI1A"]},
    }


def test_version_script_lists_only_versioned_symbols():
    symbols = [symbol("b", version="V2"), symbol("a", version="V2"), symbol("c", version="V1"), symbol("d")]
    assert elf.version_script(symbols) == "V1 { global: c; };\nV2 { global: a; b; };"
    assert elf.version_script([symbol("d")]) == ""


@pytest.mark.skipif(not shutil.which("ld"), reason="needs binutils")
def test_a_stub_loads_and_answers(tmp_path: Path):
    symbols = [
        symbol("cudnnGetProperty", version="libcudnn.so.9"),
        symbol("_ZN1A4flagEv"),
        symbol("_ZN1AC1Eb"),
        symbol("_ZTV1A", kind="OBJECT", size=40),
        symbol("_ZTI1A", kind="OBJECT", size=24),
    ]
    path = tmp_path / "libstub.so.1"
    elf.build_stub("libstub.so.1", symbols, path)
    ctypes.CDLL("libstdc++.so.6", mode=ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(path))
    assert library.cudnnGetProperty() == 1

    flag = library["_ZN1A4flagEv"]
    flag.restype = ctypes.c_bool
    assert flag() is False
    flag.restype = ctypes.c_void_p
    assert ctypes.string_at(flag(), 64) == bytes(64)

    instance = (ctypes.c_void_p * 1)()
    library["_ZN1AC1Eb"](instance)
    table = ctypes.cast(instance[0] - 16, ctypes.POINTER(ctypes.c_void_p))
    assert not table[0], "the offset to the top of the object is zero"
    assert table[1] and table[2]

    typeinfo = (ctypes.c_void_p * 2).in_dll(library, "_ZTI1A")
    assert ctypes.string_at(typeinfo[1]) == b"1A"
    defined = {(row.name, row.version) for row in elf.parse_symbols(elf.readelf("--dyn-syms", path)) if row.defined}
    assert {("cudnnGetProperty", "libcudnn.so.9"), ("_ZTV1A", "")} <= defined
    assert re.search(r"SONAME.*\[libstub\.so\.1\]", elf.readelf("--dynamic", path))


def test_a_selection_keeps_entries_whole():
    entries = lock.parse_lock(LOCK)
    assert "".join(lock.select(entries, ["torch"], [])) == "".join(LOCK.splitlines(keepends=True)[1:4])
    kept = lock.parse_lock("".join(lock.select(entries, [], ["nvidia-*", "triton", "!nvidia-cuda-runtime"])))
    assert set(kept) == {"torch", "nvidia-cuda-runtime"}
    with pytest.raises(SystemExit, match="not in the lock: tritn"):
        list(lock.select(entries, ["tritn"], []))


def test_tag_follows_content_names_and_arguments_but_not_caches(tmp_path: Path):
    package = tmp_path / "package"
    (package / "__pycache__").mkdir(parents=True)
    (package / "a.py").write_text("1")
    before = catalogue.content_hash(tmp_path, ["package"])
    (package / "__pycache__" / "a.pyc").write_text("x")
    (package / "a.cpython-311.so").write_text("x")
    assert catalogue.content_hash(tmp_path, ["package"]) == before
    assert catalogue.content_hash(tmp_path, ["package"], also=["EDITION=cpu"]) != before
    (package / "a.py").write_text("2")
    changed = catalogue.content_hash(tmp_path, ["package"])
    (package / "a.py").rename(package / "b.py")
    assert len({before, changed, catalogue.content_hash(tmp_path, ["package"])}) == 3


def test_an_edition_is_another_triton_image_and_nothing_else():
    cpu, gpu = ({image.name: image for image in catalogue.choose_edition(edition)} for edition in ("cpu", "gpu"))
    assert tuple(cpu.values()) == catalogue.IMAGES
    assert {name for name in cpu if catalogue.image_name(cpu[name]) != catalogue.image_name(gpu[name])} == {"triton"}
    assert dict(gpu["triton"].arguments)["TORCH_EDITION"] == "gpu"


def test_a_build_may_install_packages_though_the_base_names_no_mirror(tmp_path: Path, monkeypatch):
    commands = []

    def buildah(_self, *arguments):
        commands.append(list(map(str, arguments)))
        (tmp_path / "triton.id").write_text("the-id")

    monkeypatch.setattr(Store, "buildah", buildah)
    monkeypatch.setattr(lent_sources, "mirror", lambda: ["https://mirror.example/debian"])
    lent = lent_sources.lend_sources(tmp_path)
    assert Store(tmp_path).build(ROOT, "model_repo/Dockerfile", "triton", {}, [lent]) == "the-id"
    source, target, mode = next(word for word in commands[0] if "sources.list" in word).split(":")
    assert (target, mode) == ("/etc/apt/sources.list", "ro")
    assert Path(source).read_text() == "deb https://mirror.example/debian bookworm main\n"


def test_where_no_mirror_is_named_it_is_the_one_that_the_base_came_from(tmp_path: Path, monkeypatch):
    debootstrap = tmp_path / "debootstrap"
    debootstrap.write_text('#!/bin/sh\nDEF_MIRROR="https://origin.example/debian"\nMIRRORS="$DEF_MIRROR"\n')
    monkeypatch.setattr(lent_sources, "mirror", list)
    monkeypatch.setattr(lent_sources.shutil, "which", lambda name: str(debootstrap))
    lent_sources.lend_sources(tmp_path)
    assert (tmp_path / "sources.list").read_text() == "deb https://origin.example/debian bookworm main\n"
    debootstrap.write_text("")
    with pytest.raises(SystemExit, match="names no mirror"):
        lent_sources.lend_sources(tmp_path)


def stages(dockerfile: str) -> dict[str, str]:
    """Stage name to its text, comments left out."""
    text = re.sub(r"(?m)^#.*\n", "", (ROOT / dockerfile).read_text())
    return {part.split(" AS ", 1)[1].split("\n", 1)[0]: part for part in re.split(r"(?m)^(?=FROM )", text)[1:]}


@pytest.mark.parametrize("image", catalogue.IMAGES, ids=lambda image: image.name)
def test_everything_an_image_copies_is_in_its_hash(image: catalogue.Image):
    parts = stages(image.dockerfile)
    wanted, queue = set(), [image.name, "triton-from-pypi" if image.name == "triton" else image.name]
    while queue:
        name = queue.pop()
        if name in parts and name not in wanted:
            wanted.add(name)
            queue += re.findall(r"--from=(\S+)", parts[name])
    copied = {
        source
        for name in wanted
        for line in re.findall(r"(?m)^COPY (?!--from)(.+)$", parts[name])
        for source in line.split()[:-1]
    }
    assert copied | {image.dockerfile} == set(image.inputs)
    assert len(wanted) >= 3


@pytest.mark.parametrize(("edition", "programs", "headers", "built"), [
    ("cpu", [], False, True), ("gpu", ["gcc"], True, True), ("gpu", ["clang"], True, True), ("gpu", [], True, False),
    ("gpu", ["gcc"], False, False),
])  # fmt: skip
def test_a_gpu_image_without_a_compiler_is_not_built(
    tmp_path: Path, edition: str, programs: list[str], headers: bool, built: bool
):
    check = re.search(r"RUN (\[ .*?exit 1; \})", stages("model_repo/Dockerfile")["base"], re.S)
    assert check
    for program in programs:
        (tmp_path / program).write_text("#!/bin/sh\n")
    (tmp_path / "python3").write_text(f"#!/bin/sh\necho {tmp_path}\n")
    for program in tmp_path.iterdir():
        program.chmod(0o755)
    if headers:
        (tmp_path / "Python.h").touch()
    done = subprocess.run(["/bin/sh", "-c", check[1]], env={"TORCH_EDITION": edition, "PATH": str(tmp_path)}, capture_output=True)
    assert (done.returncode == 0) == built
    assert built or b"C compiler" in done.stderr


def test_both_dockerfiles_make_the_same_wheel_and_no_other_than_one_with_its_c():
    wheel = stages("model_repo/Dockerfile")["wheel"]
    assert stages("operator/Dockerfile")["wheel"] == wheel
    extensions = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]
    for name in (each["name"].replace(".", "/") for each in extensions):
        assert f"&& test -e /code/{name}.*.so" in wheel
    assert wheel.index("install -y --no-install-recommends gcc") < wheel.index("pip wheel")


@pytest.mark.parametrize(
    ("name", "not_used"),
    [
        ("operator", {"torch", "numpy", "tokenizers", "nvidia-pytriton"}),
        ("gateway", {"torch", "numpy", "kopf", "kubernetes", "nvidia-pytriton"}),
        ("engine", {"kopf", "kubernetes", "aiohttp", "nvidia-pytriton", "transformers"}),
    ],
)
def test_no_image_carries_what_it_does_not_use(name: str, not_used: set[str]):
    locked = lock.parse_lock((ROOT / f"hack/locks/{name}.txt").read_text())
    assert locked and not not_used & set(locked)


@pytest.mark.parametrize(("stage", "own"), [("operator", "operator"), ("gateway", "gateway"), ("triton", "engine")])
def test_an_image_installs_its_own_lock_only(stage: str, own: str):
    parts = stages("model_repo/Dockerfile" if stage == "triton" else "operator/Dockerfile")
    packages = parts["packages" if stage == "triton" else f"{stage}-packages"]
    assert re.findall(r"hack/locks/(\w+)\.txt", packages) == [own]
    assert "--require-hashes" in packages
    final = parts[stage]
    assert "USER 65532:65532" in final
    assert not re.search(r"(?m)^(RUN|ADD) ", final), "a step that runs in the last stage could leave something behind"
    assert final.rstrip().splitlines()[-1] == "COPY --from=wheel /code /opt/localmodel/code", "code is the last layer"


def test_torchs_python_is_told_once_that_it_has_no_cuda(tmp_path: Path):
    (tmp_path / "torch/backends/cuda").mkdir(parents=True)
    (tmp_path / "torch/version.py").write_text("debug = False\ncuda: Optional[str] = '13.2'\n")
    built = tmp_path / "torch/backends/cuda/__init__.py"
    built.write_text("def is_built():\n    return torch._C._has_cuda\n")
    cpu_torch.say_cpu(tmp_path)
    assert (tmp_path / "torch/version.py").read_text() == "debug = False\ncuda: Optional[str] = None\n"
    assert built.read_text() == "def is_built():\n    return False\n"
    with pytest.raises(SystemExit, match="has torch changed"):
        cpu_torch.say_cpu(tmp_path)


def test_list_needs_no_build_and_no_root():
    command = [sys.executable, str(ROOT / "hack/images/main.py"), "list", "--only", "gateway", "--registry", "r.example:1"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert re.fullmatch(r'\{"gateway": "r\.example:1/localmodel/gateway:[0-9a-f]{16}"\}\n', listed)


def test_a_registry_that_does_not_answer_is_named():
    with pytest.raises(SystemExit, match=r"no registry answers at 127\.0\.0\.1:1"):
        registry.has_image(registry.parse_registry("127.0.0.1:1"), "localmodel/gateway:abc")


@pytest.mark.parametrize(
    ("text", "address", "plain"),
    [
        ("127.0.0.1:5005", "127.0.0.1:5005", True),
        ("localhost:5005", "localhost:5005", True),
        ("harbor.example/team", "harbor.example/team", False),
        ("http://registry.example:5000/", "registry.example:5000", True),
        ("https://127.0.0.1:5000", "127.0.0.1:5000", False),
    ],
)
def test_a_registry_elsewhere_is_asked_over_https_unless_told_otherwise(text, address, plain):
    assert registry.parse_registry(text) == (address, plain)


@pytest.mark.parametrize("text", ["", "ftp://registry.example", "http://"])
def test_what_is_no_registry_is_refused_with_an_example(text):
    with pytest.raises(SystemExit, match="write HOST:PORT"):
        registry.parse_registry(text)

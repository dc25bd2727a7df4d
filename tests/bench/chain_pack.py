"""Packs all that `chain_cuda.py` needs on a machine with a card and no network, in the versions of this project's locks.

    PYTHONPATH=operator:tests:hack python -m bench.chain_pack [--python python3.12] [--into build/chain]

Writes one file, chain.tar.xz: the real tritonserver with its Python backend, a Python of the version of `--python` with its
shared library (Triton's stub needs one, and a machine's own Python may lack it), the packages of gateway and engine but torch,
and a tokenizer. `--python` must have the version of the Python on the other machine that holds torch.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import weights
from images.lock import parse_lock, select

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "hack" / "locks"
NOT_NEEDED = [
    "huggingface-hub",
    "hf-xet",
    "httpx2",
    "httpcore2",
    "fsspec",
    "tqdm",
    "filelock",
    "truststore",
    "anyio",
    "h11",
    "click",
]
"""What `tokenizers` names for downloads, which nothing here does."""
ENGINE = ["llguidance", "numpy", "safetensors"]
"""Beside the gateway's. numpy is in the lock for Triton's stub, which no newer one serves."""
PLATFORM = "x86_64-manylinux_2_36"
PRUNED = shutil.ignore_patterns(
    "__pycache__", "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "config-*", "site-packages",
    "*.a", "*.pyi", "*.pxd",
)  # fmt: skip


def install(lock: str, names: list[str], version: str, into: Path, without: list[str] | None = None) -> None:
    chosen = into.with_suffix(".txt")
    chosen.write_text("".join(select(parse_lock((LOCKS / lock).read_text()), names, without or [])))
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    where = ["--target", str(into), "--python-version", version, "--python-platform", PLATFORM]
    subprocess.run([*command, *where, "-r", str(chosen)], check=True)


def copy_python(prefix: Path, version: str, into: Path) -> None:
    """Its program, library and headers: the kernels' compiler builds their launchers against them."""
    for folder in (f"lib/python{version}", f"include/python{version}"):
        shutil.copytree(prefix / folder, into / folder, ignore=PRUNED)
    (into / "bin").mkdir()
    shutil.copy(prefix / "bin" / f"python{version}", into / "bin" / "python3")


def strip(folder: Path) -> None:
    libraries = [str(path) for path in folder.rglob("*.so*") if path.is_file() and not path.is_symlink()]
    subprocess.run(["strip", "--strip-unneeded", *libraries], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default="python3.12")
    parser.add_argument("--into", type=Path, default=ROOT / "build" / "chain")
    options = parser.parse_args()
    ask = "import json, sys; print(json.dumps([sys.executable, sys.base_prefix, '%d.%d' % sys.version_info[:2]]))"
    program, prefix, version = json.loads(subprocess.check_output([options.python, "-c", ask]))
    options.into.mkdir(parents=True, exist_ok=True)
    packed = options.into / "chain.tar.xz"
    with tempfile.TemporaryDirectory(dir=options.into) as name:
        place = Path(name)
        pack = place / "pack"
        pack.mkdir()
        install("gateway.txt", [], version, pack / "packages", NOT_NEEDED)
        install("engine.txt", ENGINE, version, place / "engine")
        shutil.copytree(place / "engine", pack / "packages", ignore=PRUNED, dirs_exist_ok=True)
        install("all.txt", ["nvidia-pytriton"], version, place / "pytriton")
        script = str(ROOT / "hack" / "images" / "tritonserver.py")
        subprocess.run([program, script, str(place / "pytriton"), str(pack / "triton")], check=True)
        copy_python(Path(prefix), version, pack / "python")
        strip(pack / "python")
        strip(pack / "triton" / "lib")
        shutil.copy(weights.make(weights.default_destination()) / "tokenizer.json", pack)
        for file in pack.glob("*.txt"):
            file.unlink()
        subprocess.run(["tar", "-C", str(pack), "-I", "xz -6 -T0", "-cf", str(packed), "."], check=True)
    print(f"{packed}: {packed.stat().st_size / 2**20:.1f} MiB, for Python {version}")


if __name__ == "__main__":
    main()

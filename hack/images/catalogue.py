"""Which images there are and what each is made from; its tag is the hash of that.

Exists so that `list` needs no build and `build` no clock: same inputs, same tag. Must not run anything.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TOOLS = "hack/images"
CODE = ("pyproject.toml", f"{TOOLS}/lock.py", "hack/locks/engine.txt", "operator/localmodel")


@dataclass(frozen=True)
class Image:
    name: str
    dockerfile: str
    inputs: tuple[str, ...]
    arguments: tuple[tuple[str, str], ...] = ()


BASE_INPUTS = (f"{TOOLS}/base.py",)
IMAGES = (
    Image("operator", "operator/Dockerfile", ("operator/Dockerfile", "hack/locks/operator.txt", *CODE)),
    Image("gateway", "operator/Dockerfile", ("operator/Dockerfile", "hack/locks/gateway.txt", *CODE)),
    Image(
        "triton",
        "model_repo/Dockerfile",
        (
            *("model_repo/Dockerfile", "model_repo/llm", "model_repo/predict", "hack/locks/all.txt", *CODE),
            *(f"{TOOLS}/{name}.py" for name in ("cpu_torch", "elf", "tritonserver")),
        ),
        (("TORCH_EDITION", "cpu"), ("TRITON_BASE", "triton-from-pypi")),
    ),
)


def choose_edition(edition: str) -> tuple[Image, ...]:
    """IMAGES with torch for `cpu` or `gpu`. Those without torch stay what they are."""
    chosen = {"TORCH_EDITION": edition}
    return tuple(
        replace(image, arguments=tuple({**dict(image.arguments), **chosen}.items())) if image.arguments else image
        for image in IMAGES
    )


def input_files(root: Path, inputs: Iterable[str]) -> list[Path]:
    """Every file an input names, in a stable order, without what Python and compilers leave behind."""
    files: set[Path] = set()
    for name in inputs:
        path = root / name
        found = path.rglob("*") if path.is_dir() else [path]
        files |= {file for file in found if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".so"}
    return sorted(files)


def content_hash(root: Path, inputs: Iterable[str], *, also: Iterable[str] = ()) -> str:
    digest = hashlib.sha256()
    for file in input_files(root, inputs):
        mode = "x" if file.stat().st_mode & 0o100 else "-"
        digest.update(f"{file.relative_to(root)}\0{mode}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    for value in also:
        digest.update(f"{value}\n".encode())
    return digest.hexdigest()[:16]


def base_names(root: Path = REPOSITORY) -> tuple[str, str]:
    tag = content_hash(root, BASE_INPUTS)
    return f"localmodel/base:{tag}", f"localmodel/tools:{tag}"


def image_name(image: Image, root: Path = REPOSITORY) -> str:
    also = (*base_names(root), *("=".join(item) for item in image.arguments))
    return f"localmodel/{image.name}:{content_hash(root, image.inputs, also=also)}"

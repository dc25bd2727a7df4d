"""Finds the Triton server that a Python package carries, and says how to start it as a plain process.

Why it exists: `localmodel run` and the tests serve from a virtual environment, without an image. It must not start
anything: it lays out the backend directory and returns the command line and the environment.

Layout (the image does the same): one folder with `python/`, holding the package's Python backend and the stub of the
running interpreter's version. The stub needs libpythonX.Y.so and the package's libraries on LD_LIBRARY_PATH, and reads
LOCALMODEL_PYTHONPATH (model.py does) instead of PYTHONPATH, because Triton runs it isolated.
"""

import ctypes
import importlib.util
import os
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from localmodel.core.triton import without_cards, without_pools

EXIT_TIMEOUT_SECONDS = 3
LOOPBACK = "127.0.0.1"
PYTHONPATH_VARIABLE = "LOCALMODEL_PYTHONPATH"


class TritonNotFound(Exception):
    """The environment lacks something that Triton needs; the message says what to install."""


@dataclass(frozen=True)
class TritonCommand:
    argv: list[str]
    env: dict[str, str]


def triton_command(
    model_repository: Path, work_directory: Path, http_port: int, *, metrics_port: int | None = None
) -> TritonCommand:
    """How to serve `model_repository` on the loopback `http_port`, with no model loaded yet.

    Lays out the backends under `work_directory`. Raises TritonNotFound.
    """
    package = _package_directory()
    server = package / "bin" / "tritonserver"
    argv = [
        str(server),
        f"--model-repository={model_repository}",
        f"--backend-directory={_lay_out_backends(package, work_directory)}",
        "--model-control-mode=explicit",
        "--disable-auto-complete-config",
        f"--http-address={LOOPBACK}",
        f"--http-port={http_port}",
        "--allow-grpc=false",
        f"--exit-timeout-secs={EXIT_TIMEOUT_SECONDS}",
        *without_pools(gpus=1),
    ]
    if metrics_port is None:
        argv.append("--allow-metrics=false")
    else:
        argv += [f"--metrics-address={LOOPBACK}", f"--metrics-port={metrics_port}"]
    return TritonCommand(argv, _environment(package))


def _package_directory() -> Path:
    spec = importlib.util.find_spec("pytriton")
    if spec is None or spec.origin is None:
        raise TritonNotFound("Triton is not installed here; install the extra `local`: pip install 'localmodel-operator[local]'")
    return Path(spec.origin).parent / "tritonserver"


def _lay_out_backends(package: Path, work_directory: Path) -> Path:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = package / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise TritonNotFound(f"this Triton has no stub for Python {version}; use one of {_versions(stub.parent.parent)}")
    _check_libpython(version)
    backends = work_directory / "backends"
    shutil.copytree(package / "backends" / "python", backends / "python", dirs_exist_ok=True)
    copy = backends / "python" / stub.name
    if not copy.exists() or copy.stat().st_size != stub.stat().st_size:
        shutil.copyfile(stub, copy)
    copy.chmod(0o755)
    return backends


def _check_libpython(version: str) -> None:
    """A Python without its shared library starts Triton, but not the stub, which then fails with the loader's words only."""
    name = f"libpython{version}.so.1.0"
    directory = sysconfig.get_config_var("LIBDIR")
    if directory and (Path(directory) / name).exists():
        return
    try:
        ctypes.CDLL(name)
    except OSError:
        raise TritonNotFound(
            f"{name} is missing, which Triton's Python backend needs; on Debian: apt-get install libpython{version}"
        ) from None


def _versions(stubs: Path) -> str:
    return ", ".join(sorted(entry.name for entry in stubs.iterdir()))


def _environment(package: Path) -> dict[str, str]:
    libraries = [str(package.parent.parent / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR") or ""]
    libraries += os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    source_root = Path(__file__).parents[2]
    packages = [str(source_root), *(entry for entry in sys.path if entry.endswith("site-packages"))]
    return {
        **({} if "CUDA_VISIBLE_DEVICES" in os.environ else without_cards()),
        **os.environ,
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
        PYTHONPATH_VARIABLE: os.pathsep.join(packages),
    }

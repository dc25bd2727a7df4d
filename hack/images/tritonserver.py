"""Lays PyPI's Triton out as NVIDIA's image does: /opt/tritonserver/{bin,lib,backends}.

Exists so that the pod template is the same for both. Runs in an image build, on a folder made by
`pip install --target nvidia-pytriton`. Must not install anything: it only moves files.
"""

import shutil
import sys
import sysconfig
from pathlib import Path


def lay_out(packages: Path, root: Path) -> None:
    """The server, its libraries, and the Python backend with the stub and the library of the running interpreter."""
    server = packages / "pytriton" / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copytree(server / "bin", root / "bin")
    shutil.copytree(packages / "nvidia_pytriton.libs", root / "lib")
    shutil.copytree(server / "backends" / "python", root / "backends" / "python")
    stub = root / "backends" / "python" / "triton_python_backend_stub"
    shutil.copy(server / "python_backend_stubs" / version / stub.name, stub)
    interpreter = sysconfig.get_config_var("INSTSONAME")
    folders = [sysconfig.get_config_var(name) for name in ("LIBDIR", "LIBPL")]
    multiarch = Path(folders[0], sysconfig.get_config_var("MULTIARCH") or "")
    found = next(path for folder in (multiarch, *map(Path, folders)) if (path := folder / interpreter).exists())
    shutil.copy(found, root / "lib" / interpreter)
    for executable in (root / "bin" / "tritonserver", stub):
        executable.chmod(0o755)


if __name__ == "__main__":
    lay_out(Path(sys.argv[1]), Path(sys.argv[2]))

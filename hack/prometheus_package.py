"""Brings `prometheus` and `promtool` into the cache from Debian's package, without installing it: that would start a service.

The tests' real Prometheus. Does nothing if both are on PATH or in the cache already.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CACHE = Path(os.environ.get("LOCALMODEL_CACHE", Path.home() / ".cache" / "localmodel"))
CURRENT = CACHE / "bin" / "current"
NAMES = ("prometheus", "promtool")


def find(name: str) -> str:
    """Path of the program in the cache or on PATH; empty if there is none."""
    built = CURRENT / name
    return str(built) if built.exists() else shutil.which(name) or ""


def fetch() -> None:
    """Unpacks the package's two programs. Raises SystemExit with what to do instead if that is not possible."""
    if all(map(find, NAMES)):
        return
    advice = "put prometheus and promtool on PATH"
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise SystemExit(f"no apt-get here: {advice}")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        download = ["apt-get", "download", "-q", "prometheus"]
        if subprocess.run(download, cwd=folder, capture_output=True).returncode and os.geteuid() == 0:
            subprocess.run(["apt-get", "update", "-q"], capture_output=True)
            subprocess.run(download, cwd=folder, capture_output=True)
        packages = list(Path(folder).glob("prometheus_*.deb"))
        if not packages:
            raise SystemExit(f"apt-get download prometheus failed: {advice}")
        subprocess.run(["dpkg-deb", "-x", str(packages[0]), folder], check=True)
        home = CACHE / "bin" / packages[0].name.removesuffix(".deb").split("%3a")[-1]
        home.mkdir(parents=True, exist_ok=True)
        CURRENT.mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            shutil.copy2(Path(folder) / "usr" / "bin" / name, home / name)
            (CURRENT / name).unlink(missing_ok=True)
            (CURRENT / name).symlink_to(Path("..") / home.name / name)
    print(f"prometheus and promtool are in {CURRENT}")


if __name__ == "__main__":
    sys.exit(fetch())

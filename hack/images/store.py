"""Runs buildah on a storage of its own, so that nothing here meets the user's podman or docker images.

Exists to keep buildah's flags in one place. Must not decide what is built.
"""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")

COMPRESSION = ("--compression-format", "zstd", "--compression-level", "1")


def cache_folder() -> Path:
    default = Path.home() / ".cache" / "localmodel"
    return Path(os.environ.get("LOCALMODEL_CACHE") or default) / "images"


@dataclass(frozen=True)
class Store:
    folder: Path

    def buildah(self, *arguments: str | Path, capture: bool = False) -> str:
        command = ["buildah", "--root", self.folder / "storage", "--runroot", self.folder / "run", *arguments]
        done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE if capture else None)
        return done.stdout or ""

    def names(self) -> set[str]:
        if not (self.folder / "storage").exists():
            return set()
        images = json.loads(self.buildah("images", "--json", capture=True) or "[]") or []
        return {name.removeprefix("localhost/") for image in images for name in image["names"] or []}

    def import_tree(self, tree: Path, name: str) -> None:
        """One layer from a root file system."""
        container = self.buildah("from", "scratch", capture=True).strip()
        self.buildah("add", "--quiet", container, tree, "/")
        self.buildah("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", "--cmd", "python3", container)
        self.buildah("commit", "--quiet", "--rm", container, name)

    def run(self, name: str, command: list[str], volumes: list[str]) -> None:
        """Runs a command in a throw-away container as the user, and with the environment, that the image names."""
        container = self.buildah("from", "--pull-never", name, capture=True).strip()
        try:
            mounts = [flag for volume in volumes for flag in ("--volume", volume)]
            self.buildah("run", "--isolation", "chroot", "--network", "host", *mounts, container, "--", *command)
        finally:
            self.buildah("rm", container, capture=True)

    def tag(self, image_id: str, name: str) -> None:
        self.buildah("tag", image_id, name)

    def push(self, name: str, destination: str, *, plain: bool) -> None:
        """Compression costs more here than the loopback transfer it saves; see docs/images.md for the measurement."""
        self.buildah("push", "--quiet", f"--tls-verify={str(not plain).lower()}", *COMPRESSION, name, destination)

    def build(self, context: Path, dockerfile: str, target: str, arguments: dict[str, str], lent: list[str]) -> str:
        """Builds one target and returns the image's id.

        The build is lent this machine's trust in certificates, pip settings and pip cache, and the volumes `lent`; the image
        keeps none of it.
        """
        pip, image_id = self.folder / "pip", self.folder / f"{target}.id"
        pip.mkdir(parents=True, exist_ok=True)
        settings = write_pip_settings(self.folder / "pip.conf")
        volumes = [*lent, f"{pip}:/root/.cache/pip", f"{settings}:/root/.config/pip/pip.conf:ro"]
        if CA_BUNDLE.exists():
            volumes.append(f"{CA_BUNDLE}:{CA_BUNDLE}:ro")
        self.buildah(
            *("build", "--layers", "--isolation", "chroot", "--network", "host", "--pull-never", "--iidfile", image_id),
            *("--force-rm", "--file", context / dockerfile, "--ignorefile", context / f"{dockerfile}.dockerignore"),
            *("--target", target, *(flag for volume in volumes for flag in ("--volume", volume))),
            *(flag for item in arguments.items() for flag in ("--build-arg", "=".join(item))),
            context,
        )
        return image_id.read_text()


def write_pip_settings(path: Path) -> Path:
    """This user's pip index settings, from the environment, as a file that a build can mount."""
    names = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout")
    values = {name: os.environ.get(f"PIP_{name.replace('-', '_').upper()}") for name in names}
    values |= {"quiet": "1", "root-user-action": "ignore", "disable-pip-version-check": "1"}
    if CA_BUNDLE.exists():
        values["cert"] = str(CA_BUNDLE)
    lines = [f"{name} = {value}" for name, value in values.items() if value]
    path.write_text("\n".join(["[global]", *lines, ""]))
    return path

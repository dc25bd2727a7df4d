"""What the machine itself must offer: privileges, kernel features, Debian packages.

Says in one sentence what is missing. Installs Debian packages only, only missing ones, and says so.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

from cluster.node import CNI_PLUGINS
from cluster.report import Unavailable, say

# What must exist -> the Debian package that brings it.
COMMANDS = {
    "ip": "iproute2",
    "nft": "nftables",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "mount": "mount",
    "openssl": "openssl",
    "pkg-config": "pkg-config",
    "gcc": "gcc",
}
FILES = {
    f"{CNI_PLUGINS}/ptp": "containernetworking-plugins",
    "/usr/include/seccomp.h": "libseccomp-dev",
}


def check_machine() -> None:
    if platform.system() != "Linux":
        raise Unavailable("The local cluster needs Linux: its nodes are network namespaces.")
    if os.geteuid() != 0:
        raise Unavailable("The local cluster needs root: its nodes are network and mount namespaces.")
    probe = ["unshare", "--net", "--mount", "true"]
    if shutil.which("unshare") and subprocess.run(probe, capture_output=True).returncode:
        raise Unavailable("This machine does not allow network and mount namespaces, which the cluster's nodes are.")


def missing_packages() -> list[str]:
    by_command = {package for command, package in COMMANDS.items() if shutil.which(command) is None}
    return sorted(by_command | {package for file, package in FILES.items() if not Path(file).exists()})


def install_packages() -> None:
    packages = missing_packages()
    if not packages:
        return
    if shutil.which("apt-get") is None:
        raise Unavailable(f"These must be installed first (Debian's names): {', '.join(packages)}.")
    say(f"installing Debian packages: {' '.join(packages)}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-q"], ["install", "-y", "-q", "--no-install-recommends", *packages]):
        done = subprocess.run(["apt-get", *command], env=environment, capture_output=True, text=True)
        if done.returncode:
            raise Unavailable(f"apt-get {command[0]} failed: {(done.stderr or done.stdout).strip()[-300:]}")

"""Only etcd and an API server, in the foreground, without privileges: for tests of the CRD and of writes.

Independent of the two-node cluster: any number may run side by side, each in its own folder, on free
loopback ports. It must end both processes whenever it ends itself, even when killed.
"""

from __future__ import annotations

import ctypes
import json
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path
from types import FrameType

from cluster.api import Api, wait_until
from cluster.certificates import make_authority, sign
from cluster.control_plane import AUDIT_POLICY, apiserver_command, etcd_command
from cluster.kubeconfig import write_kubeconfig
from cluster.layout import Layout

_PR_SET_PDEATHSIG = 1


def serve(layout: Layout, folder: Path) -> int:
    """Run until SIGTERM or SIGINT, or until one of the two processes dies by itself (exit status 1)."""
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "etcd", ignore_errors=True)
    pki = folder / "pki"
    make_authority(pki)
    sign(pki, "apiserver", "kube-apiserver", hosts=["127.0.0.1", "localhost"])
    sign(pki, "admin", "admin", "system:masters")
    (folder / "audit.json").write_text(json.dumps(AUDIT_POLICY, indent=1))
    client_port, peer_port, api_port = _free_ports(3)
    etcd_url, server = f"http://127.0.0.1:{client_port}", f"https://127.0.0.1:{api_port}"
    write_kubeconfig(folder / "kubeconfig", server, pki, "admin")

    stopped = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopped.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    api_command = apiserver_command(layout, pki, etcd_url, "127.0.0.1", api_port, folder)
    api_command += ["--endpoint-reconciler-type=none", "--advertise-address=192.0.2.1"]
    processes = [
        _start(etcd_command(layout, folder / "etcd", etcd_url, f"http://127.0.0.1:{peer_port}"), folder / "etcd.log"),
        _start(api_command, folder / "kube-apiserver.log"),
    ]
    api = Api(server, pki, "admin")
    try:
        wait_until(
            f"the API server (see {folder}/kube-apiserver.log)",
            lambda: stopped.is_set() or _any_ended(processes) or api.is_ready(),
            seconds=60,
        )
        if not stopped.is_set() and not _any_ended(processes):
            print(f"KUBECONFIG={folder / 'kubeconfig'}", flush=True)
        while not stopped.wait(0.5) and not _any_ended(processes):
            pass
        return 0 if stopped.is_set() else 1
    finally:
        for process in reversed(processes):
            process.terminate()
            try:
                process.wait(timeout=3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _any_ended(processes: list[subprocess.Popen[bytes]]) -> bool:
    return any(process.poll() is not None for process in processes)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=log.parent,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

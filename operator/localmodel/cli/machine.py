"""What this machine has to offer: free ports and GPUs, and how its own servers are asked. Reads only; reserves nothing."""

import errno
import shutil
import socket
import subprocess
import urllib.request

from localmodel.cli.problems import Problem

HOST = "127.0.0.1"
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""For URLs of this machine: a proxy that the environment names can't reach them."""
_DRIVER_SECONDS = 30


def check_port(port: int, option: str) -> None:
    """Raises Problem if nothing could listen on `port`; `option` is how the user chooses another."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            listener.listen(1)
        except OSError as error:
            why = "is already taken" if error.errno == errno.EADDRINUSE else f"can't be used ({error.strerror})"
            raise Problem(f"Port {port} of {HOST} {why}; end what uses it, or choose another with {option} PORT.") from None


def find_free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


def count_gpus() -> int:
    """NVIDIA cards that the driver lists; 0 without a driver."""
    if not shutil.which("nvidia-smi"):
        return 0
    command = ["nvidia-smi", "--list-gpus"]
    try:
        listing = subprocess.run(command, capture_output=True, text=True, timeout=_DRIVER_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise Problem(
            f"`nvidia-smi --list-gpus` has not answered for {_DRIVER_SECONDS} s, so the driver hangs; see the kernel's log, or "
            "write `gpu: {count: 0}` to run on the CPU."
        ) from None
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines()) if listing.returncode == 0 else 0


def check_gpus(wanted: int, present: int) -> None:
    """Raises Problem if the model asks for more cards than there are."""
    if wanted > present:
        raise Problem(
            f"spec.gpu.count is {wanted}, but this machine has {present} NVIDIA GPUs (`nvidia-smi --list-gpus`); "
            "write `gpu: {count: 0}` to run on the CPU, or run it on a machine with the cards."
        )

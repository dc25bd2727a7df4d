"""What this machine has to offer: free ports and GPUs. Reads only; reserves nothing."""

import errno
import shutil
import socket
import subprocess

from localmodel.cli.problems import Problem

HOST = "127.0.0.1"


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
    listing = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=30, check=False)
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines()) if listing.returncode == 0 else 0


def check_gpus(wanted: int, present: int) -> None:
    """Raises Problem if the model asks for more cards than there are."""
    if wanted > present:
        raise Problem(
            f"spec.gpu.count is {wanted}, but this machine has {present} NVIDIA GPUs (`nvidia-smi --list-gpus`); "
            "write `gpu: {count: 0}` to run on the CPU, or run it on a machine with the cards."
        )

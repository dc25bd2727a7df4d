"""Processes of the gateway's benches: a scripted Triton and clients in Go, the gateway, the proxies it is compared with.

What is measured runs on one core, all else on the others. CPU seconds come from the kernel: they hold on a busy machine, while
the clock does not.
"""

import itertools
import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.conftest import CHAT, ROOT, free_ports
from gateway.tiny_model import write_tiny_model

CACHE = Path(os.environ.get("LOCALMODEL_CACHE") or Path.home() / ".cache" / "localmodel")
LAST = (os.cpu_count() or 1) - 1
MEASURED = ["taskset", "-c", str(LAST)]
OTHERS = ["taskset", "-c", f"0-{max(0, LAST - 1)}"]
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Part:
    url: str
    pid: int
    log: Path = Path(os.devnull)
    """What it says on its standard error."""

    def cpu(self) -> float:
        """Seconds of processor time so far, of the process and those it started."""
        parents: dict[int, int] = {}
        spent: dict[int, int] = {}
        for file in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                fields = file.read_text().rpartition(")")[2].split()
                parents[int(file.parent.name)] = int(fields[1])
                spent[int(file.parent.name)] = int(fields[11]) + int(fields[12])
        return sum(ticks for pid, ticks in spent.items() if self.pid in lineage(pid, parents)) / _TICKS

    def resident_mb(self) -> float:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0


def tool() -> str:
    """The Go part, built once for each change of its source."""
    source = ROOT / "tests" / "bench" / "go"
    binary = CACHE / "bench" / "parts"
    if not binary.exists() or binary.stat().st_mtime < max(file.stat().st_mtime for file in source.iterdir()):
        environment = {**os.environ, "GOFLAGS": "-mod=mod", "CGO_ENABLED": "0", "GOWORK": "off"}
        subprocess.run(["go", "build", "-o", str(binary), "."], cwd=source, check=True, env=environment)
    return str(binary)


class Bench:
    """Starts parts and ends them, in the order of a `with` block."""

    def __init__(self, python: str = sys.executable) -> None:
        """`python` runs the gateway: one built like the image's may be another than the one that runs the bench."""
        self._python = python
        self._stack = ExitStack()
        self._files = itertools.count()
        self.directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="localmodel-bench-")))

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, command: list[str], url: str, alive: str, patience: float = 180, **environment: str) -> Part:
        log = self._stack.enter_context((self.directory / f"{next(self._files)}.log").open("wb"))
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, env={**os.environ, **environment})
        self._stack.callback(end, process)
        until = time.monotonic() + patience
        while not answers(alive):
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"{command} did not start:\n{Path(log.name).read_text()[-3000:]}")
            time.sleep(0.1)
        return Part(url, process.pid, Path(log.name))

    def upstream(self, step: str = "2ms", words: Sequence[str] = (" word",)) -> Part:
        """`words`: ASCII tokens without quotes, said again and again."""
        (port,) = free_ports(1)
        url = f"http://127.0.0.1:{port}"
        return self.start(
            [*OTHERS, tool(), "upstream", "-listen", f"127.0.0.1:{port}", "-step", step, "-words", "|".join(words)],
            url,
            f"{url}/v2/health/live",
        )

    def proxy(self, upstream: Part) -> Part:
        (port,) = free_ports(1)
        url = f"http://127.0.0.1:{port}"
        command = [*MEASURED, tool(), "proxy", "-listen", f"127.0.0.1:{port}", "-to", upstream.url]
        return self.start(command, url, f"{url}/v2/health/live", GOMAXPROCS="1")

    def gateway(self, triton_url: str, slots: int = 4096, **changes: Any) -> Part:
        serving, admin = free_ports(2)
        model = self.directory / f"model-{serving}"
        model.mkdir()
        settings: dict[str, Any] = {
            "model_name": "tiny-model", "served_names": ["tiny"], "context_window": 4096, "max_batch_size": slots,
            "model_path": str(write_tiny_model(model)), "serving_host": "127.0.0.1", "serving_port": serving,
            "admin_host": "127.0.0.1", "admin_port": admin, "triton_url": triton_url,
            "channel_token_file": str(self.directory / "token"), "endpoint_removal_seconds": 0, **changes,
        }  # fmt: skip
        file = self.directory / f"gateway-{serving}.json"
        file.write_text(json.dumps(settings))
        command = [*MEASURED, self._python, "-m", "localmodel.gateway", "--settings", str(file)]
        ready = f"http://127.0.0.1:{admin}/readyz"
        modules = os.pathsep.join([str(ROOT / "operator"), sysconfig.get_path("purelib")])
        return self.start(command, f"http://127.0.0.1:{serving}", ready, PYTHONPATH=modules)

    def litellm(self, upstream: Part) -> Part:
        """From PyPI, in an environment of its own, made from the project's lock."""
        place = CACHE / "litellm"
        if not (place / "bin" / "litellm").exists():
            subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
            lock = ROOT / "hack" / "locks" / "litellm.txt"
            install = [sys.executable, "-m", "uv", "pip", "install", "-q", "--python", str(place / "bin" / "python")]
            subprocess.run([*install, "--require-hashes", "-r", str(lock)], check=True)
        (port,) = free_ports(1)
        model = {
            "model_name": "tiny",
            "litellm_params": {"model": "openai/tiny", "api_base": f"{upstream.url}/v1", "api_key": "x"},
        }
        file = self.directory / "litellm.yaml"
        file.write_text(json.dumps({"model_list": [model]}))
        url = f"http://127.0.0.1:{port}"
        command = [*MEASURED, str(place / "bin" / "litellm"), "--config", str(file), "--host", "127.0.0.1", "--port", str(port)]
        quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "PYTHONPATH": ""}
        return self.start([*command, "--num_workers", "1", "--telemetry", "False"], url, f"{url}/health/liveliness", **quiet)

    def body(self, **fields: Any) -> str:
        return self.file(json.dumps({**CHAT, **fields}))

    def file(self, text: str) -> str:
        file = self.directory / f"body-{next(self._files)}.json"
        file.write_text(text)
        return str(file)


def lineage(pid: int, parents: dict[int, int]) -> set[int]:
    seen = set()
    while pid in parents and pid not in seen:
        seen.add(pid)
        pid = parents[pid]
    return seen


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def load(
    part: Part,
    body: str,
    seconds: float = 3,
    clients: int = 16,
    rate: float = 0,
    path: str = "/v1/chat/completions",
    leave: float = 0,
) -> dict[str, Any]:
    """What the clients saw, and `cpu`: the seconds of processor time that it cost the part. `leave`: share that does not stay."""
    command = [*OTHERS, tool(), "load", "-url", part.url + path, "-body", body, "-for", f"{seconds}s"]
    before = part.cpu()
    done = subprocess.run(
        [*command, "-clients", str(clients), "-rate", str(rate), "-leave", str(leave)], check=True, capture_output=True
    )
    seen: dict[str, Any] = json.loads(done.stdout)
    seen["cpu"] = part.cpu() - before
    seen["ok"] = seen["statuses"].get("200", 0)
    return seen

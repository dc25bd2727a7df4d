"""Runs the layers of tests in order, makes what each needs, and says at the end what ran, what did not, and why.

It must not know what a test does. A layer that this machine can't run is named with the reason; with CI=true that is a failure.
"""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import IO, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
CACHE = Path(os.environ.get("LOCALMODEL_CACHE") or Path.home() / ".cache" / "localmodel")
CANNOT_RUN_HERE = 3
"""Exit status of the tools in hack/ that found the machine unable and said why."""
FOREIGN = os.environ.get("CONTEXT", "")
"""A kubectl context of the user's: e2e runs there, and no cluster is made."""
LOWEST_PRIORITY = 19
Command = tuple[str, ...]


class Layer(NamedTuple):
    name: str
    commands: tuple[Command, ...]
    unable: Callable[[], str] = lambda: ""
    """Why this machine can't run the layer, as a sentence; empty if it can."""


class Result(NamedTuple):
    name: str
    outcome: str
    seconds: float = 0.0


PASSED, FAILED, NOT_RUN = "passed", "FAILED", "not run: "


def python(*arguments: str) -> Command:
    return (str(BIN / "python"), *arguments)


def pytest(*arguments: str) -> Command:
    return python("-m", "pytest", "-q", "--durations=5", *arguments)


def why_no_api() -> str:
    """What can't be built here may be in the cache; what Debian would bring may be on PATH."""
    built = all(
        (CACHE / "bin" / "current" / name).exists() for name in ("etcd", "kube-apiserver", "kubectl", "helm", "kubeconform")
    )
    if not built and not shutil.which("go"):
        return "go is missing, which builds the API server"
    if not shutil.which("apt-get") and not shutil.which("promtool") and not (CACHE / "bin" / "current" / "promtool").exists():
        return "prometheus and promtool are missing, and there is no apt-get to bring them"
    return "" if shutil.which("openssl") else "openssl is missing, which makes the API server's certificates"


def why_no_cluster() -> str:
    """Only the cheap look; `hack/cluster/main.py up` looks closer and ends with CANNOT_RUN_HERE."""
    if FOREIGN:
        return ""
    if os.geteuid() != 0:
        return "not root: nodes are network namespaces with their own containerd"
    if not shutil.which("apt-get"):
        return "not Debian: the images are made from its packages"
    return why_no_api()


BUILD_API = python("hack/cluster/main.py", "build", "--only", "etcd", "kubernetes", "helm", "kubeconform")
"""What needs no C compiler; the rest is built by `up`, which brings one."""
WEIGHTS = tuple(python("hack/weights.py", "--model", model) for model in ("smollm2-135m-instruct", "minilm-l6-v2"))
LOCAL_CLUSTER = (
    python("hack/cluster/main.py", "up"),
    python("hack/cluster/main.py", "build", "--only", "helm"),
    python("hack/prometheus_package.py"),
    python("hack/images/main.py", "push"),
)
BROWSER = (python("hack/debian_packages.py", "chromium"), python("hack/node_packages.py", "tests/page"))
"""Chromium, and what npm brings for the audit."""
LAYERS = (
    Layer(
        "lint",
        (
            (str(BIN / "ruff"), "check", "--quiet"),
            (str(BIN / "ruff"), "format", "--check", "--quiet"),
            (str(BIN / "mypy"),),
            python("hack/generate.py", "--check"),
        ),
    ),
    Layer("unit", (pytest("tests/unit", "tests/golden", "-m", "not triton and not gpu"),)),
    Layer("gateway", (pytest("tests/gateway", "-m", "not triton and not gpu"),)),
    Layer("triton", (*WEIGHTS, pytest("tests", "-m", "triton and not gpu"))),
    Layer("suites", (*WEIGHTS, pytest("tests/suites"))),
    Layer("page", (*BROWSER, *WEIGHTS, pytest("tests/page"))),
    Layer("api", (BUILD_API, python("hack/prometheus_package.py"), pytest("tests/chart", "tests/cluster")), why_no_api),
    Layer(
        "e2e",
        (
            *(() if FOREIGN else LOCAL_CLUSTER),
            *WEIGHTS,
            pytest("tests/e2e"),
        ),
        why_no_cluster,
    ),
)
FAST = ("lint", "unit")


def choose(only: Sequence[str] | None, *, fast: bool) -> list[Layer]:
    """The layers to run, in their own order whatever the order asked for."""
    names = only or (FAST if fast else [layer.name for layer in LAYERS])
    return [layer for layer in LAYERS if layer.name in names]


def run_layer(layer: Layer) -> Result:
    if reason := layer.unable():
        return Result(layer.name, NOT_RUN + reason)
    start, environment = time.monotonic(), os.environ | {"PYTHONPATH": str(ROOT / "operator")}
    for command in layer.commands:
        print(f"\n=== {layer.name}: {' '.join(Path(word).name if '/bin/' in word else word for word in command)}", flush=True)
        status = subprocess.run(command, cwd=ROOT, env=environment).returncode
        if status == CANNOT_RUN_HERE and "pytest" not in command:
            return Result(layer.name, f"{NOT_RUN}{command[1]} says above why", time.monotonic() - start)
        if status:
            return Result(layer.name, FAILED, time.monotonic() - start)
    return Result(layer.name, PASSED, time.monotonic() - start)


def conclude(results: Collection[Result], *, strict: bool) -> tuple[str, int]:
    """The closing lines and the exit status. `strict`: what could not run counts as failed."""
    lines = [f"{result.name:8} {result.seconds:6.0f} s  {result.outcome}" for result in results]
    failed = [r.name for r in results if r.outcome == FAILED or (strict and r.outcome.startswith(NOT_RUN))]
    if failed:
        lines.append(f"failed: {', '.join(failed)}")
    return "\n".join(lines), 1 if failed else 0


def start_building(chosen: Collection[Layer]) -> subprocess.Popen[bytes] | None:
    """Compiles the API server's programs beside the layers that don't need them, and slows none; layer `api` waits for it."""
    if not any(layer.name == "api" for layer in chosen) or why_no_api():
        return None
    (CACHE / "logs").mkdir(parents=True, exist_ok=True)
    with (CACHE / "logs" / "cluster-build.log").open("w") as log:
        return start_aside(BUILD_API, log)


def start_aside(command: Command, log: IO[str]) -> subprocess.Popen[bytes]:
    """At the lowest priority. Where the kernel shares out processors by session first, the session has it, too."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PGRP, process.pid, LOWEST_PRIORITY)
    with contextlib.suppress(OSError):
        Path(f"/proc/{process.pid}/autogroup").write_text(str(LOWEST_PRIORITY))
    return process


def end_group(process: subprocess.Popen[bytes]) -> None:
    """With all that it has started; one that has ended is left alone. What it leaves half built the next build removes."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--fast", action="store_true", help=f"only {', '.join(FAST)}")
    parser.add_argument(
        "--only", action="append", choices=[layer.name for layer in LAYERS], help="only this layer; may be repeated"
    )
    options = parser.parse_args(arguments)
    chosen = choose(options.only, fast=options.fast)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    builder, results = start_building(chosen), list[Result]()
    try:
        for layer in chosen:
            if layer.name == "api" and builder:
                builder.wait()
            results.append(run_layer(layer))
    finally:
        if builder:
            end_group(builder)
    text, status = conclude(results, strict=os.environ.get("CI") == "true")
    print(f"\n{text}")
    return status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

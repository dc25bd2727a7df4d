"""Runs the layers of tests in order, makes what each needs, and says at the end what ran, what did not, and why.

It must not know what a test does. A layer that this machine can't run is named with the reason; with CI=true that is a failure.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
CACHE = Path(os.environ.get("LOCALMODEL_CACHE", Path.home() / ".cache" / "localmodel"))
CLUSTER = [sys.executable, "hack/cluster/main.py"]
MODEL = CACHE / "models" / "smollm2-135m-instruct"


class Layer(NamedTuple):
    name: str
    commands: tuple[tuple[str, ...], ...]
    unable: Callable[[], str] = lambda: ""
    """Why this machine can't run the layer, as a sentence; empty if it can."""


def pytest(*arguments: str) -> tuple[str, ...]:
    return (str(BIN / "python"), "-m", "pytest", "-q", "--durations=5", *arguments)


def cluster(*arguments: str) -> tuple[str, ...]:
    return (*CLUSTER, *arguments)


def why_no_toolchain() -> str:
    tools = [name for name in ("go", "gcc") if not shutil.which(name)]
    return f"{' and '.join(tools)} is missing, which builds the API server" if tools else ""


def why_no_cluster() -> str:
    if os.geteuid() != 0:
        return "not root: nodes are network namespaces with their own containerd"
    if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
        return "this machine does not let us make network namespaces"
    return why_no_toolchain()


LAYERS = (
    Layer(
        "lint",
        (
            (str(BIN / "ruff"), "check", "--quiet"),
            (str(BIN / "ruff"), "format", "--check", "--quiet"),
            (str(BIN / "mypy"),),
            (str(BIN / "python"), "hack/generate.py", "--check"),
        ),
    ),
    Layer("unit", (pytest("tests/unit", "tests/golden", "-m", "not triton and not gpu"),)),
    Layer("gateway", (pytest("tests/gateway", "-m", "not triton and not gpu"),)),
    Layer("triton", ((str(BIN / "python"), "hack/weights.py", str(MODEL)), pytest("tests", "-m", "triton and not gpu"))),
    Layer(
        "api",
        (cluster("build"), (sys.executable, "hack/prometheus_package.py"), pytest("tests/chart", "tests/cluster")),
        why_no_toolchain,
    ),
    Layer("e2e", (cluster("up"), (sys.executable, "hack/images/main.py", "push"), pytest("tests/e2e", "-x")), why_no_cluster),
)  # fmt: skip
FAST = ("lint", "unit")


def run_layer(layer: Layer) -> bool:
    for command in layer.commands:
        print(f"\n=== {layer.name}: {' '.join(Path(word).name if '/bin/' in word else word for word in command)}", flush=True)
        if subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT / "operator")}).returncode:
            return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--fast", action="store_true", help=f"only {', '.join(FAST)}")
    parser.add_argument("--only", action="append", choices=[layer.name for layer in LAYERS], help="only these layers")
    arguments = parser.parse_args()
    chosen = arguments.only or (FAST if arguments.fast else [layer.name for layer in LAYERS])
    results: list[tuple[str, str, float]] = []
    builder = None
    if "api" in chosen and not why_no_toolchain():
        (CACHE / "logs").mkdir(parents=True, exist_ok=True)
        log = (CACHE / "logs" / "cluster-build.log").open("w")
        builder = subprocess.Popen(cluster("build"), cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    for layer in LAYERS:
        if layer.name not in chosen:
            continue
        if reason := layer.unable():
            results.append((layer.name, f"not run: {reason}", 0.0))
            continue
        if layer.name == "api" and builder:
            builder.wait()
        start = time.monotonic()
        passed = run_layer(layer)
        results.append((layer.name, "passed" if passed else "FAILED", time.monotonic() - start))
    print("\n" + "\n".join(f"{name:8} {seconds:6.0f} s  {result}" for name, result, seconds in results))
    strict = os.environ.get("CI") == "true"
    failed = [name for name, result, _ in results if result == "FAILED" or (strict and result.startswith("not run"))]
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

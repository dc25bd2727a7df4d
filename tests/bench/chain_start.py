"""Where the time of a start goes, from the processes' start to the first token: gateway, real tritonserver and engine on a CPU.

    PYTHONPATH=operator:tests:hack python -m bench.chain_start [--against CHECKOUT] [--rounds 5] [--realtime]

Each round starts the whole chain anew, by turns from CHECKOUT (another copy of this repository) and from this one. For each
moment: its median seconds since the start, by the clock and in processor time; on a busy machine the clock says something with
`--realtime` only. Processor time is the engine's own at the moments inside it, else that of all processes of the chain, with
10 ms of resolution. At the end medians of the rounds' ratios. What a card takes is in `engine_start_cuda` and `chain_cuda`.
Nothing is asserted.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import weights
from bench.bare_loop import go_first
from bench.gateway_parts import Part, end
from bench.rounds import machine
from gateway.conftest import ROOT, free_ports
from localmodel.cli.triton_runtime import PYTHONPATH_VARIABLE, triton_command

PATIENCE = 300
SAYS = {
    "Started HTTPService": "Triton's port is open",
    "backend is Loading": "the gateway asks for the load",
    "backend is Ready": "the gateway hears the engine",
    "the model answers": "ready",
}
"""Words of Triton's and the gateway's logs."""
FIRST_LINE = """\
import os, time
def _mark(name):
    with open({file!r}, "a") as marks:
        marks.write(f"{{time.monotonic()}} {{time.process_time()}} {{name}}\\n")
_mark("the engine's Python runs")
"""
LAST_LINES = """
_mark("its shim is imported")
from localmodel.engine import triton as _triton
def _marked(owner, verb, name):
    original = getattr(owner, verb)
    def marked(*arguments, **options):
        result = original(*arguments, **options)
        _mark(name)
        return result
    setattr(owner, verb, marked)
_choose = _triton._choose_service
def _choose_marked(config):
    service = _choose(config)
    _mark("torch and the service are imported")
    from localmodel.engine import loader, service as services
    _marked(loader, "load_tensors", "weights are read")
    _marked(services, "load_model", "the model is loaded")
    return service
_triton._choose_service = _choose_marked
_marked(TritonPythonModel, "initialize", "Triton has the model")
"""


class Start:
    """One start of the chain from `checkout`, until a first token has come."""

    def __init__(self, checkout: Path, model: Path, directory: Path) -> None:
        self._checkout = checkout
        self._model = model
        self._directory = directory
        self._marks = directory / "marks"
        self._moments: dict[str, float] = {}
        self._spent: dict[str, float] = {}
        self._parts: list[Part] = []

    def run(self) -> tuple[dict[str, float], dict[str, float]]:
        """Seconds of the clock and of processor time until each moment."""
        serving, admin, port = free_ports(3)
        self._write(serving, admin, port)
        triton = triton_command(self._directory / "repository", self._directory, port)
        modules = os.pathsep.join([str(self._checkout / "operator"), *(e for e in sys.path if e.endswith("site-packages"))])
        gateway = [sys.executable, "-m", "localmodel.gateway", "--settings", str(self._directory / "gateway.json")]
        with ExitStack() as stack:
            self._began = monotonic()
            for argv, environment in (
                (triton.argv, {**triton.env, PYTHONPATH_VARIABLE: modules}),
                (gateway, {**os.environ, "PYTHONPATH": modules}),
            ):
                process = subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                stack.callback(end, process)
                self._parts.append(Part("", process.pid))
                threading.Thread(target=self._listen, args=(process,), daemon=True).start()
            self._wait("ready")
            self._ask(serving)
            self._note("first token")
        for line in self._marks.read_text().splitlines():
            at, spent, name = line.split(" ", 2)
            self._moments[name] = float(at) - self._began
            self._spent[name] = float(spent)
        return self._moments, self._spent

    def _write(self, serving: int, admin: int, port: int) -> None:
        llm = self._directory / "repository" / "llm"
        shutil.copytree(self._checkout / "model_repo" / "llm", llm)
        shim = llm / "1" / "model.py"
        shim.write_text(FIRST_LINE.format(file=str(self._marks)) + shim.read_text() + LAST_LINES)
        shared = {
            "model_path": str(self._model), "channel_token_file": str(self._directory / "token"), "context_window": 512,
            "max_batch_size": 8,
        }  # fmt: skip
        (llm / "1" / "model.json").write_text(json.dumps({**shared, "cpu_threads": 1}))
        settings = {
            **shared, "model_name": "start", "served_names": ["start"], "serving_host": "127.0.0.1", "serving_port": serving,
            "admin_host": "127.0.0.1", "admin_port": admin, "triton_url": f"http://127.0.0.1:{port}",
            "endpoint_removal_seconds": 0,
        }  # fmt: skip
        (self._directory / "gateway.json").write_text(json.dumps(settings))

    def _listen(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with (self._directory / f"{process.pid}.log").open("w") as log:
            for line in process.stdout:
                log.write(line)
                log.flush()
                for words, name in SAYS.items():
                    if words in line and name not in self._moments:
                        self._note(name)

    def _note(self, name: str) -> None:
        self._moments[name] = monotonic() - self._began
        self._spent[name] = sum(part.cpu() for part in self._parts)

    def _wait(self, name: str) -> None:
        while name not in self._spent:
            if monotonic() - self._began > PATIENCE:
                logs = "\n".join(log.read_text()[-3000:] for log in self._directory.glob("*.log"))
                raise SystemExit(f"waited in vain: {name}\n{logs}")
            sleep(0.005)

    def _ask(self, port: int) -> None:
        """Returns with the first token's event."""
        body = {"model": "start", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2, "stream": True}
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
            for line in reply:
                if line.startswith(b"data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                    return
        raise SystemExit("the answer had no token")


def start(checkout: Path, model: Path) -> tuple[dict[str, float], dict[str, float]]:
    with tempfile.TemporaryDirectory(prefix="chain-start-") as name:
        return Start(checkout, model, Path(name)).run()


def show(name: str, rounds: list[tuple[dict[str, float], dict[str, float]]]) -> None:
    print(f"{name}: median seconds since the processes' start, by the clock and of processor time")
    clock = {moment: statistics.median(seen[moment] for seen, _ in rounds) for moment in rounds[0][0]}
    for moment, seconds in sorted(clock.items(), key=lambda item: item[1]):
        spent = [spent[moment] for _, spent in rounds if moment in spent]
        print(f"  {seconds:6.2f}  {f'{statistics.median(spent):6.2f}' if spent else '':6}  {moment}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout, measured in turns")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", type=Path, help="default: SmolLM2-135M-Instruct")
    parser.add_argument("--realtime", action="store_true", help="needs root")
    options = parser.parse_args()
    if options.realtime:
        go_first(os.getpid())
    model = options.model or weights.make(weights.default_destination())
    checkouts = {"before": options.against.resolve()} if options.against else {}
    seen: dict[str, list[Any]] = {name: [] for name in (*checkouts, "now")}
    for number in range(options.rounds + 1):
        for name, checkout in {**checkouts, "now": ROOT}.items():
            result = start(checkout, model)
            seen[name] += [result] if number else []  # the first reads libraries from the disk
    print(machine())
    for name, rounds in seen.items():
        show(name, rounds)
    for what, number in (("clock", 0), ("processor time", 1)) if options.against else ():
        ratios = [now[number]["first token"] / before[number]["first token"] for before, now in zip(*seen.values(), strict=True)]
        print(f"first token, now / before, by {what}: {statistics.median(ratios):.3f}  {sorted(round(r, 2) for r in ratios)}")


if __name__ == "__main__":
    main()

"""Streamed tokens per second, end to end: clients of the gateway, and of Triton's own generate_stream with no gateway, before the
real tritonserver with a model whose steps cost no time.

    PYTHONPATH=operator:tests:hack python -m bench.gateway_triton [--rounds 3] [--seconds 4] [--clients 64] [--engine]

Triton's own way is a response for each token and request; the model for it is a scripted one. The gateway stands before that one,
whose event stream takes a step of 2 ms, so that its processor time says more than the clock. With `--engine` it stands before the
engine, with a step that computes nothing, and the engine's own `generate`, which says several tokens at once, is asked besides.
"""

import argparse
import json
import shutil
from typing import Any
from urllib.request import Request, urlopen

import weights
from bench.gateway_parts import OTHERS, Bench, Part, load
from bench.rounds import alternate, machine, median
from bench.standing import shorten
from gateway.conftest import ROOT, free_ports
from localmodel.cli.triton_runtime import triton_command

TOKENS = 64
WINDOW = 512


def triton(bench: Bench, engine: bool, clients: int) -> Part:
    (port,) = free_ports(1)
    directory = bench.directory / ("engine" if engine else "scripted")
    version = directory / "repository" / "llm" / "1"
    version.mkdir(parents=True)
    shutil.copy(ROOT / "model_repo" / "llm" / "config.pbtxt", version.parent)
    shutil.copy(ROOT / "tests" / "bench" / ("fake_step" if engine else "zero_step") / "model.py", version)
    if engine:
        model = shorten(weights.make(weights.default_destination()), 1, directory / "model")
        config = {
            "model_path": str(model), "channel_token_file": str(bench.directory / "token"), "context_window": WINDOW,
            "max_batch_size": clients, "cpu_threads": 1,
        }  # fmt: skip
        (version / "model.json").write_text(json.dumps(config))
    command = triton_command(directory / "repository", directory, port)
    url = f"http://127.0.0.1:{port}"
    return bench.start([*OTHERS, *command.argv], url, f"{url}/v2/health/live", **command.env)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--engine", action="store_true")
    options = parser.parse_args()
    print(machine())
    with Bench() as bench:
        scripted = triton(bench, False, options.clients)
        behind = scripted
        if options.engine:
            behind = triton(bench, True, options.clients)
            urlopen(Request(f"{scripted.url}/v2/repository/models/llm/load", b"{}")).read()  # there is no gateway to do it
        window = {"context_window": WINDOW} if options.engine else {}
        gateway = bench.gateway(behind.url, *([options.clients] if options.engine else []), **window)
        ours = bench.body(max_tokens=TOKENS, stream=True)
        sampling = {"max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
        direct = bench.file(json.dumps({"REQUEST": json.dumps({"op": "generate", "text": "What", "sampling": sampling})}))

        def tokens(part: Part, server: Part) -> dict[str, Any]:
            before = server.cpu()
            body, path = (ours, "/v1/chat/completions") if part is gateway else (direct, "/v2/models/llm/generate_stream")
            seen = load(part, body, options.seconds, options.clients, path=path)
            spent = server.cpu() - before + (seen["cpu"] if part is gateway else 0)
            assert seen["ok"] >= 0.99 * sum(seen["statuses"].values()), seen
            return {"rate": seen["ok"] * TOKENS / seen["seconds"], "work": spent / (seen["ok"] * TOKENS) * 1e6}

        asked = {"gateway": (gateway, behind), "generate_stream, a response a token": (scripted, scripted)}
        if options.engine:
            asked["the engine's generate_stream"] = (behind, behind)
        results = alternate(options.rounds, *(lambda parts=parts: tokens(*parts) for parts in asked.values()))
        print(f"{options.clients} clients, {TOKENS} tokens each; processor time is that of all servers")
        rates = [median(each, lambda result: result["rate"]) for each in results]
        work = [median(each, lambda result: result["work"]) for each in results]
        for name, rate, spent in zip(asked, rates, work, strict=True):
            ratios = f"the gateway makes {rates[0] / rate:.2f}x by the clock, {spent / work[0]:.2f}x by processor time"
            print(f"{name}: {rate:.0f} tokens/s, {spent:.0f} us a token" + ("" if name == "gateway" else f"; {ratios}"))


if __name__ == "__main__":
    main()

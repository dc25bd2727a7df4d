"""Streamed tokens per second, end to end: clients of the gateway, and of Triton's own generate_stream with no gateway, before the
real tritonserver with a model whose steps cost no time.

    PYTHONPATH=operator:tests:hack python -m bench.gateway_triton [--rounds 3] [--seconds 4] [--clients 64] [--engine]

Without `--engine` the model is a scripted one that sends each token in a response of its own, both ways, so that transport alone
is compared. With it, it is the engine with a step that computes nothing: then both ways bring several tokens at once.
"""

import argparse
import json
import shutil
from typing import Any

import weights
from bench.cancels import shorten
from bench.gateway_parts import OTHERS, Bench, Part, alternate, load, machine, median
from gateway.conftest import ROOT, free_ports
from localmodel.cli.triton_runtime import triton_command

TOKENS = 64
WINDOW = 512


def triton(bench: Bench, engine: bool, clients: int) -> Part:
    (port,) = free_ports(1)
    version = bench.directory / "repository" / "llm" / "1"
    version.mkdir(parents=True)
    shutil.copy(ROOT / "model_repo" / "llm" / "config.pbtxt", version.parent)
    shutil.copy(ROOT / "tests" / "bench" / ("fake_step" if engine else "zero_step") / "model.py", version)
    if engine:
        model = shorten(weights.make(weights.default_destination()), 1, bench.directory / "model")
        config = {
            "model_path": str(model), "channel_token_file": str(bench.directory / "token"), "context_window": WINDOW,
            "max_batch_size": clients, "cpu_threads": 1,
        }  # fmt: skip
        (version / "model.json").write_text(json.dumps(config))
    command = triton_command(bench.directory / "repository", bench.directory, port)
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
        server = triton(bench, options.engine, options.clients)
        gateway = (
            bench.gateway(server.url, options.clients, context_window=WINDOW) if options.engine else bench.gateway(server.url)
        )
        ours = bench.body(max_tokens=TOKENS, stream=True)
        sampling = {"max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
        direct = bench.file(json.dumps({"REQUEST": json.dumps({"op": "generate", "text": "What", "sampling": sampling})}))

        def tokens(part: Part, body: str, path: str) -> dict[str, Any]:
            before = server.cpu()
            seen = load(part, body, options.seconds, options.clients, path=path)
            spent = server.cpu() - before + (seen["cpu"] if part is gateway else 0)
            assert seen["ok"] >= 0.99 * sum(seen["statuses"].values()), seen
            return {**seen, "rate": seen["ok"] * TOKENS / seen["seconds"], "work": spent / (seen["ok"] * TOKENS) * 1e6}

        through, without = alternate(
            options.rounds,
            lambda: tokens(gateway, ours, "/v1/chat/completions"),
            lambda: tokens(server, direct, "/v2/models/llm/generate_stream"),
        )
        rates = [median(results, lambda result: result["rate"]) for results in (through, without)]
        print(f"{options.clients} clients, {TOKENS} tokens each: gateway {rates[0]:.0f} tokens/s", end=", ")
        print(f"generate_stream {rates[1]:.0f} tokens/s", end=", ")
        work = [median(results, lambda result: result["work"]) for results in (through, without)]
        print(f"ratio {rates[0] / rates[1]:.2f}")
        print(f"processor time per token of all servers: {work[0]:.0f} us with the gateway, {work[1]:.0f} us without", end=", ")
        print(f"tokens per second of processor time: ratio {work[1] / work[0]:.2f}")


if __name__ == "__main__":
    main()

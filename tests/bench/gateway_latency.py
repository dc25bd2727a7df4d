"""What a proxy adds to a streamed chat of 64 tokens at 60 % of what the gateway bears: the gateway, and a Go ReverseProxy that
only copies, at the same rate; and at 60 % of what LiteLLM bears, both of them and LiteLLM.

    PYTHONPATH=operator:tests python -m bench.gateway_latency [--rounds 3] [--seconds 4] [--without-litellm]

Added is the whole answer's time less that of the same requests at the same rate with nothing between. The copying proxy shows
what the machine itself adds: a core that is not free, clients that read late. LiteLLM is installed from PyPI into the cache the
first time, by the lock in hack/locks.
"""

import argparse
from typing import Any

from bench.gateway_parts import Bench, Part, load
from bench.rounds import alternate, machine, median

TOKENS = 64
CLIENTS = 256
DIRECT = "nothing between"


def peak(name: str, part: Part, body: str, seconds: float, clients: int) -> float:
    load(part, body, seconds, clients)
    seen = load(part, body, seconds, clients)
    streams = float(seen["ok"] / seen["seconds"])
    print(f"{name}: peak {streams:.0f} streams/s, {seen['ok'] / seen['cpu']:.0f} per second of its core")
    return streams


def compare(parts: dict[str, Part], body: str, rate: float, rounds: int, seconds: float) -> dict[str, float]:
    """Added milliseconds at the median, by name."""

    def at(part: Part) -> dict[str, Any]:
        return load(part, body, seconds, CLIENTS, rate)

    results = alternate(rounds, *(lambda part=part: at(part) for part in parts.values()))
    times = {
        name: {q: median(seen, lambda result, q=q: result["whole_ms"][q]) for q in ("p50", "p99")}
        for name, seen in zip(parts, results, strict=True)
    }
    for name, whole in times.items():
        added = {q: whole[q] - times[DIRECT][q] for q in whole}
        print(f"{rate:6.1f}/s {name:16} p50 {whole['p50']:8.2f} p99 {whole['p99']:8.2f} ms", end=", ")
        print(f"added p50 {added['p50']:7.2f} p99 {added['p99']:7.2f} ms")
    return {name: whole["p50"] - times[DIRECT]["p50"] for name, whole in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--without-litellm", action="store_true")
    options = parser.parse_args()
    print(machine())
    with Bench() as bench:
        upstream = bench.upstream()
        body = bench.body(max_tokens=TOKENS, stream=True)
        parts = {"gateway": bench.gateway(upstream.url), "copying proxy": bench.proxy(upstream), DIRECT: upstream}
        fast = 0.6 * peak("gateway", parts["gateway"], body, options.seconds, 64)
        compare(parts, body, fast, options.rounds, options.seconds)
        if options.without_litellm:
            return
        parts = {"litellm": bench.litellm(upstream), **parts}
        slow = 0.6 * peak("litellm", parts["litellm"], body, options.seconds, 8)
        added = compare(parts, body, slow, options.rounds, options.seconds)
        share = added["gateway"] / added["litellm"]
        print(f"added p50 of the gateway by that of LiteLLM, at the same rate: {share:.2f}")


if __name__ == "__main__":
    main()

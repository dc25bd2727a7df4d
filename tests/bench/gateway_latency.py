"""What a proxy adds to a streamed chat of 64 tokens at 60 % of what it bears: the gateway, and LiteLLM at its rate and the same.

    PYTHONPATH=operator:tests python -m bench.gateway_latency [--rounds 3] [--seconds 4]

Added is the whole answer's time less that of the same requests at the same rate with nothing between. LiteLLM is installed from
PyPI into the cache the first time, by the lock in hack/locks.
"""

import argparse
from typing import Any

from bench.gateway_parts import Bench, Part, alternate, load, machine, median

TOKENS = 64
CLIENTS = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    options = parser.parse_args()
    print(machine())
    with Bench() as bench:
        upstream = bench.upstream()
        gateway, litellm = bench.gateway(upstream.url), bench.litellm(upstream)
        body = bench.body(max_tokens=TOKENS, stream=True)
        peaks = []
        for name, part, clients in (("gateway", gateway, 64), ("litellm", litellm, 8)):
            load(part, body, options.seconds, clients)
            seen = load(part, body, options.seconds, clients)
            peaks.append(seen["ok"] / seen["seconds"])
            print(f"{name}: peak {peaks[-1]:.0f} streams/s, {seen['ok'] / seen['cpu']:.0f} per second of its core")

        def at(part: Part, rate: float) -> dict[str, Any]:
            return load(part, body, options.seconds, CLIENTS, rate)

        slow, fast = 0.6 * peaks[1], 0.6 * peaks[0]
        names = ("gateway", "nothing between", "gateway", "litellm", "nothing between")
        rates = (fast, fast, slow, slow, slow)
        parts = (gateway, upstream, gateway, litellm, upstream)
        results = alternate(
            options.rounds, *(lambda part=part, rate=rate: at(part, rate) for part, rate in zip(parts, rates, strict=True))
        )
        whole = [{q: median(seen, lambda result, q=q: result["whole_ms"][q]) for q in ("p50", "p99")} for seen in results]
        for name, rate, times, base in zip(names, rates, whole, (1, 1, 4, 4, 4), strict=True):
            added = {q: times[q] - whole[base][q] for q in times}
            print(f"{rate:6.1f}/s {name:16} p50 {times['p50']:8.2f} p99 {times['p99']:8.2f} ms", end=", ")
            print(f"added p50 {added['p50']:7.2f} p99 {added['p99']:7.2f} ms")
        share = (whole[2]["p50"] - whole[4]["p50"]) / (whole[3]["p50"] - whole[4]["p50"])
        print(f"added p50 of the gateway by that of LiteLLM, at the same rate: {share:.2f}")


if __name__ == "__main__":
    main()

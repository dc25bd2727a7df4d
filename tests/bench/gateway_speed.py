"""Work per request and per token: the gateway and a Go ReverseProxy that only copies, in turns, on one core.

    PYTHONPATH=operator:tests python -m bench.gateway_speed [--rounds 5] [--seconds 3] [--python /usr/bin/python3.11]

Requests per second of one core are requests by seconds of processor time. `--python` runs the gateway and must be of the same
version: Debian's, which is in the image, is built with a profile; pyenv's by default is not, and slower. Nothing is asserted.
"""

import argparse
import sys

from bench.gateway_parts import Bench, load
from bench.rounds import alternate, machine, median


def per_core(result: dict[str, float]) -> float:
    return result["ok"] / max(result["cpu"], 0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--python", default=sys.executable)
    options = parser.parse_args()
    print(machine())
    with Bench(options.python) as bench:
        upstream = bench.upstream()
        gateway, proxy = bench.gateway(upstream.url), bench.proxy(upstream)
        for name, stream, tokens, clients in (("plain", False, 16, 64), ("streamed", True, 4, 32), ("streamed", True, 64, 64)):
            body = bench.body(max_tokens=tokens, stream=stream)
            ours, theirs = alternate(
                options.rounds,
                lambda body=body, clients=clients: load(gateway, body, options.seconds, clients),
                lambda body=body, clients=clients: load(proxy, body, options.seconds, clients),
            )
            for each in (*ours, *theirs):
                assert each["ok"] >= 0.99 * sum(each["statuses"].values()), each
            ratio = median(ours, per_core) / median(theirs, per_core)
            token = median(ours, lambda result, tokens=tokens: result["cpu"] / (result["ok"] * tokens) * 1e6)
            print(
                f"{name}: requests/s of one core: gateway {median(ours, per_core):.0f}, proxy {median(theirs, per_core):.0f}",
                end=", ",
            )
            print(f"ratio {ratio:.2f}; the gateway's processor time per token {token:.1f} us")
            for who, results in (("gateway", ours), ("proxy", theirs)):
                p50, p99 = (median(results, lambda result, at=at: result["first_ms"][at]) for at in ("p50", "p99"))
                print(f"    {who:8} first token p50 {p50:.2f} ms, p99 {p99:.2f} ms")


if __name__ == "__main__":
    main()

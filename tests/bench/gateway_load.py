"""Work per token of 64 streams, the first event, memory, and five times too much load.

PYTHONPATH=operator:tests python -m bench.gateway_load [--rounds 3] [--overload-seconds 60]
"""

import argparse
import subprocess
import time

from bench.gateway_parts import OTHERS, Bench, Part, load, tool
from bench.rounds import alternate, machine, median

STREAMS = 64
TOKENS = 256
SLOTS = 8


def work_per_token(bench: Bench, rounds: int) -> None:
    upstream = bench.upstream("10ms")
    gateway, proxy = bench.gateway(upstream.url), bench.proxy(upstream)
    body = bench.body(max_tokens=TOKENS, stream=True)
    both = alternate(rounds, *(lambda part=part: load(part, body, 1, STREAMS) for part in (gateway, proxy)))
    ours, theirs = (median(results, lambda result: result["cpu"] / (result["ok"] * TOKENS) * 1e6) for results in both)
    print(f"processor time per token, {STREAMS} streams: gateway {ours:.1f} us, proxy {theirs:.1f} us")


def first_event(bench: Bench, rounds: int) -> None:
    upstream = bench.upstream()
    gateway = bench.gateway(upstream.url)
    body = bench.body(max_tokens=4, stream=True)
    both = alternate(rounds, *(lambda part=part: load(part, body, 2, 1) for part in (gateway, upstream)))
    for at in ("p50", "p90", "p99"):
        ours, direct = (median(results, lambda result, at=at: result["first_ms"][at]) for results in both)
        print(f"first event, one stream: {at} {ours:.2f} ms, without the gateway {direct:.2f} ms, added {ours - direct:.2f} ms")


def memory(bench: Bench) -> None:
    upstream = bench.upstream("500ms")
    gateway = bench.gateway(upstream.url)
    time.sleep(2)
    idle = gateway.resident_mb()
    body = bench.body(max_tokens=24, stream=True)
    print(f"memory: idle {idle:.0f} MB", end="")
    for count in (256, 512):
        before = gateway.resident_mb()
        clients = start_clients(gateway, body, count)
        time.sleep(9)
        print(f", {count} open streams {(gateway.resident_mb() - before) * 1024 / count:.0f} KB each", end="")
        clients.wait()
    print(f", after them {gateway.resident_mb():.0f} MB")


def start_clients(part: Part, body: str, count: int) -> "subprocess.Popen[bytes]":
    command = [*OTHERS, tool(), "load", "-url", part.url + "/v1/chat/completions", "-body", body, "-for", "1s"]
    return subprocess.Popen([*command, "-clients", str(count)], stdout=subprocess.DEVNULL)


def overload(bench: Bench, seconds: float) -> None:
    upstream = bench.upstream("10ms")
    gateway = bench.gateway(upstream.url, SLOTS, concurrency={"queue": 2 * SLOTS})
    body = bench.body(max_tokens=10, stream=True)
    load(gateway, body, 2, SLOTS)
    peak = load(gateway, body, 10, 2 * SLOTS)
    good = peak["ok"] / peak["seconds"]
    over = load(gateway, body, seconds, 2000, rate=5 * good)
    share = over["ok"] / over["seconds"] / good
    print(f"overload: peak {good:.0f} requests/s, at {5 * good:.0f}/s for {seconds:.0f} s goodput {share:.0%} of it", end=", ")
    print(f"answers {over['statuses']}", end=", ")
    shed = over["shed_ms"] or {"p50": 0, "p99": 0}
    print(f"shed p50 {shed['p50']:.1f} ms, p99 {shed['p99']:.1f} ms, {gateway.resident_mb():.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--overload-seconds", type=float, default=60)
    options = parser.parse_args()
    print(machine())
    for measure in (
        lambda bench: work_per_token(bench, options.rounds),
        lambda bench: first_event(bench, options.rounds),
        memory,
        lambda bench: overload(bench, options.overload_seconds),
    ):
        with Bench() as bench:
            measure(bench)


if __name__ == "__main__":
    main()

"""Random admitted configurations asked for the worst: what the engine takes against what it predicted and against its cap.

    PYTHONPATH=operator:tests python -m bench.admitted --device cuda --count 1000 --workers 8      (one free card)
    PYTHONPATH=operator:tests python -m bench.admitted --device cpu --count 60 [--first 17] [--each]

Each number is a configuration (`random_models`): the network is written, loaded with a cap between too little and plenty, and
driven with the longest prompts, all slots and all that a sampler can do. One that was admitted must never run out of memory or
take more than its cap. `--each` prints a line for each, so that one can be run again with `--first N --count 1`.

On a card several processes share the configurations; what each takes is what torch reserved at most, and what the driver says
that the process holds beside that. On a CPU it is the process's anonymous memory, sampled.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from bench.admitted_measure import Result, run


def run_share(seeds: range) -> list[Result]:
    """In a process of its own, and in another from the next one on if that is killed."""
    results: list[Result] = []
    while left := seeds[len(results) :]:
        command = [
            sys.executable,
            "-m",
            "bench.admitted",
            "--device",
            "cuda",
            "--worker",
            *map(str, (left.start, left.stop, left.step)),
        ]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        results += [Result(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode and len(results) < len(seeds):
            results.append(Result(seeds[len(results)], f"FAILED process: {done.returncode}"))
    return results


def run_on_card(first: int, count: int, workers: int) -> list[Result]:
    with ThreadPoolExecutor(workers) as pool:
        shares = pool.map(run_share, [range(first + number, first + count, workers) for number in range(workers)])
        return sorted((result for share in shares for result in share), key=lambda result: result.seed)


def quantiles(name: str, values: list[float]) -> str:
    cuts = statistics.quantiles(values, n=20, method="inclusive") if len(values) > 1 else values * 19
    return (
        f"{name}: least {min(values):.3f}, 5 % {cuts[0]:.3f}, median {cuts[9]:.3f}, 95 % {cuts[18]:.3f}, most {max(values):.3f}"
    )


def describe(result: Result) -> str:
    mib = {name: getattr(result, name) / 2**20 for name in ("cap", "predicted", "taken", "beside")}
    words = ", ".join(f"{name} {value:,.1f}" for name, value in mib.items())
    more = f"{result.answered} tokens, {result.seconds:.1f} s, {result.retries} retries"
    return f"{result.seed}: {result.outcome}; MiB: {words}; {more}"


def report(results: list[Result]) -> None:
    print(f"{len(results)} configurations: {dict(Counter(result.outcome.partition(':')[0] for result in results))}")
    served = [result for result in results if result.outcome == "served"]
    wrong = [each for each in results if each.outcome.startswith("FAILED") or each.taken > each.cap]
    low = [each for each in served if each.taken > each.predicted]
    print(f"  failed or above the cap: {len(wrong)}; above what was predicted: {len(low)}", flush=True)
    for result in [*wrong, *low][:20]:
        print(f"  {describe(result)}")
    if served:
        print("  " + quantiles("taken / predicted", [each.taken / each.predicted for each in served]))
        print("  " + quantiles("predicted - taken, MiB", [(each.predicted - each.taken) / 2**20 for each in served]))
        print("  " + quantiles("seconds", [each.seconds for each in results]))
        retried, answered = sum(each.retries > 0 for each in served), sum(each.answered for each in served)
        print(f"  {answered:,} tokens; {retried} configurations met the wall and gave back what was kept")
    if beside := [each.beside / 2**20 for each in served if each.beside]:
        print("  " + quantiles("beside torch's allocator, MiB", beside), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--each", action="store_true")
    parser.add_argument("--worker", nargs=3, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        run(range(*options.worker), options.device, lambda result: print(json.dumps(asdict(result)), flush=True))
        return
    results: list[Result] = []
    if options.device == "cuda":
        results = run_on_card(options.first, options.count, options.workers)
    else:
        run(range(options.first, options.first + options.count), "cpu", results.append)
    if options.each:
        print("\n".join(map(describe, results)))
    report(results)


if __name__ == "__main__":
    main()

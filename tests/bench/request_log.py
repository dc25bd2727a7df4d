"""What the request log costs: throughput of a gateway without a log against one in mode Metadata and in mode Full with redaction.

    PYTHONPATH=operator:tests:hack python -m bench.request_log [--sets 10] [--rounds 2] [--seconds 1.5] [--clients 256]
        [--tokens 64] [--clean] [--only plain]

Each set has gateways of its own, because two processes of the same code differ by several percent, and begins with another mode.
Each round asks every gateway for the same chats, streamed and not, as fast as so many clients can, one gateway after the other.
Prompts and answers hold telephone numbers and e-mail addresses (ten a request; `--clean`: none), and there is a pattern of one's
own. Throughput is requests per second of the gateway's own processor time, all threads, until all is written, over all sets; the
middle half of the sets' own costs shows how far to trust that. `beside`: the time of the threads beside the requests' own, which
are the log's. Nothing is asserted.
"""

import argparse
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

from bench.gateway_parts import Bench, Part, load
from bench.rounds import alternate, machine

MODES = ("None", "Metadata", "Full")
PROMPT = "What is the capital of France? " * 8 + "Write to zhang.san@bank.cn or call 138 0013 8000."
ANSWER = (" the", " capital", " is", " Par", "is", ",", " call", " 138", "0013", "8000", " or", " a", "@", "b.cn", ".", " Then")
CLEAN_PROMPT, CLEAN_ANSWER = "What is the capital of France? " * 10, (" the", " capital", " is", " Par", "is", ",", " then")
_WRITTEN_SECONDS = 0.5
"""After a load, until its last record is written."""


def measure(gateway: Part, body: str, seconds: float, clients: int) -> dict[str, Any]:
    """As `load`, with what the log still has to do; `beside`: seconds of the threads beside the requests' own."""
    before, beside = gateway.cpu(), beside_seconds(gateway)
    result = load(gateway, body, seconds, clients)
    time.sleep(_WRITTEN_SECONDS)
    return {**result, "cpu": gateway.cpu() - before, "beside": beside_seconds(gateway) - beside}


def beside_seconds(part: Part) -> float:
    tasks = [task for task in Path(f"/proc/{part.pid}/task").iterdir() if task.name != str(part.pid)]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each load")
    parser.add_argument("--clients", type=int, default=256, help="at once")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--clean", action="store_true", help="texts that hold nothing to be taken out")
    parser.add_argument("--only", choices=("streamed", "plain"))
    options = parser.parse_args()
    print(machine())
    kinds = [options.only] if options.only else ["streamed", "plain"]
    sets = [measure_set(number, options, kinds) for number in range(options.sets)]
    for kind in kinds:
        of_kind = [each[kind] for each in sets]
        free = processor_us([result for each in of_kind for result in each[MODES[0]]])
        for mode in MODES:
            results = [result for each in of_kind for result in each[mode]]
            costs = [1 - processor_us(each[MODES[0]]) / processor_us(each[mode]) for each in of_kind]
            low, _, high = statistics.quantiles(costs, n=4)
            takes, beside = processor_us(results), processor_us(results, "beside")
            told = f"{takes:6.0f} us a request, {beside:4.0f} of them beside; costs {1 - free / takes:6.1%} of throughput"
            print(f"{kind:8} {mode:9} {told} (sets: {low:.1%} to {high:.1%})")


def measure_set(number: int, options: argparse.Namespace, kinds: list[str]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Results by kind and mode."""
    prompt, answer = (CLEAN_PROMPT, CLEAN_ANSWER) if options.clean else (PROMPT, ANSWER)
    chat = {"messages": [{"role": "user", "content": prompt}], "max_tokens": options.tokens}
    first = number % len(MODES)
    modes = MODES[first:] + MODES[:first]
    found = {}
    with Bench() as bench:
        triton = bench.upstream("2ms", answer).url
        gateways = [bench.gateway(triton, log_mode=mode, redact_patterns=["EMP-[0-9]{6}"]) for mode in modes]
        for kind in kinds:
            body = bench.body(**chat, stream=kind == "streamed")
            loads = [partial(measure, gateway, body, options.seconds, options.clients) for gateway in gateways]
            found[kind] = dict(zip(modes, alternate(options.rounds, *loads), strict=True))
    return found


def processor_us(results: list[dict[str, Any]], which: str = "cpu") -> float:
    """A request's."""
    return float(sum(result[which] for result in results) / sum(result["ok"] for result in results) * 1e6)


if __name__ == "__main__":
    main()

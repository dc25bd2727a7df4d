"""What the request log costs: throughput of a gateway without a log against one in mode Metadata and in mode Full with redaction.

    PYTHONPATH=operator:tests:hack python -m bench.request_log [--sets 5] [--rounds 3] [--seconds 2] [--clients 16] [--tokens 64]
        [--clean]

Each set has gateways of its own, because two processes of the same code differ by several percent. Each round asks every gateway
for the same chats, streamed and not, as fast as so many clients can, one gateway after the other. Prompts and answers hold
telephone numbers and e-mail addresses (ten a request; `--clean`: none), and there is a pattern of one's own. Throughput is
requests per second of the gateway's own processor time, all threads, until all is written. Medians over the rounds, and of each
round's ratio to the gateway without a log, which scatter by several percent where other work runs; the time of the threads beside
the requests' own, which are the log's, hardly does. Nothing is asserted.
"""

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

from bench.gateway_parts import Bench, Part, alternate, load, machine, median

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
    parser.add_argument("--sets", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2, help="of each load")
    parser.add_argument("--clients", type=int, default=16, help="at once")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--clean", action="store_true", help="texts that hold nothing to be taken out")
    options = parser.parse_args()
    print(machine())
    prompt, answer = (CLEAN_PROMPT, CLEAN_ANSWER) if options.clean else (PROMPT, ANSWER)
    chat = {"messages": [{"role": "user", "content": prompt}], "max_tokens": options.tokens}
    found: dict[bool, list[list[dict[str, float]]]] = {stream: [[] for _ in MODES] for stream in (True, False)}
    for _ in range(options.sets):
        with Bench() as bench:
            triton = bench.upstream("2ms", answer).url
            gateways = [bench.gateway(triton, log_mode=mode, redact_patterns=["EMP-[0-9]{6}"]) for mode in MODES]
            for stream, results in found.items():
                body = bench.body(**chat, stream=stream)
                loads = [partial(measure, gateway, body, options.seconds, options.clients) for gateway in gateways]
                for of_mode, more in zip(results, alternate(options.rounds, *loads), strict=True):
                    of_mode += more
    for stream, results in found.items():
        for mode, measured in zip(MODES, results, strict=True):
            costs = median(measured, lambda result: result["cpu"] / result["ok"] * 1e6)
            beside = median(measured, lambda result: result["beside"] / result["ok"] * 1e6)
            pairs = [
                {"ratio": base["cpu"] / base["ok"] * ours["ok"] / ours["cpu"]}
                for ours, base in zip(measured, results[0], strict=True)
            ]
            share = 1 - median(pairs, lambda pair: pair["ratio"])
            kind = "streamed" if stream else "plain"
            print(f"{kind:8} {mode:9} {costs:6.0f} us a request, {beside:4.0f} of them beside; costs {share:6.1%} of throughput")


if __name__ == "__main__":
    main()

"""A long, even load in which some clients leave: does memory stay flat, and do log, metrics and clients count the same?

    PYTHONPATH=operator:tests python -m bench.gateway_soak [--minutes 30] [--rate 100] [--leave 0.1]

Each minute one line: requests, those who left, resident memory. At the end the totals by outcome: of the log's files, of the
metrics, of the clients; the codes of those that were not answered, and what the gateway says of its backend and the event stream.
Exits 1 if the totals differ, if a slot is still held, or if a stream was lost. The log is in mode Full, with redaction.
"""

import argparse
import json
import re
import statistics
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

from bench.gateway_parts import Bench, Part, load
from bench.rounds import machine

_TOTAL = re.compile(r"^localmodel_gateway_requests_total\{(.*?)\} (\S+)$", re.M)


LOST = ("idle_timeout", "first_token_timeout", "total_timeout", "upstream_error", "protocol_error", "internal_error")


def logged(directory: Path, member: str = "outcome") -> Counter[str]:
    """Requests in the log's files by outcome, or by another member that is not null."""
    found: Counter[str] = Counter()
    for file in sorted(directory.glob("requests-*.log")):
        with file.open("rb") as lines:
            for line in lines:
                record = json.loads(line)
                if record.get(member) and record.get("endpoint") == "chat":
                    found[record[member]] += 1
    return found


def counted(text: str) -> Counter[str]:
    """Requests in the metrics by outcome."""
    found: Counter[str] = Counter()
    for labels, value in _TOTAL.findall(text):
        pairs = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if pairs["endpoint"] == "chat" and float(value):
            found[pairs["outcome"]] += int(float(value))
    return found


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as reply:
        text: str = reply.read().decode()
        return text


def soak(bench: Bench, gateway: Part, minutes: float, rate: float, leave: float) -> tuple[Counter[str], list[float]]:
    body = bench.body(max_tokens=64, stream=True)
    seen: Counter[str] = Counter()
    memory = []
    until = time.monotonic() + minutes * 60
    while (rest := until - time.monotonic()) > 1:
        result = load(gateway, body, min(60, rest), 256, rate, leave=leave)
        seen.update({f"status {status}": count for status, count in result["statuses"].items()})
        seen["left"] += result["left"]
        memory.append(gateway.resident_mb())
        print(f"{len(memory)} min: {sum(seen.values())} requests, {seen['left']} left, {memory[-1]:.1f} MB, "
              f"{result['cpu']:.1f} s of processor time", flush=True)  # fmt: skip
    return seen, memory


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=100, help="requests per second")
    parser.add_argument("--leave", type=float, default=0.1, help="share whose client leaves")
    options = parser.parse_args()
    print(machine())
    with Bench() as bench:
        directory = bench.directory / "log"
        directory.mkdir()
        files = {"directory": str(directory), "max_bytes": 2**32, "max_files": 2}
        gateway = bench.gateway(bench.upstream("5ms").url, log_mode="Full", log_file=files)
        seen, memory = soak(bench, gateway, options.minutes, options.rate, options.leave)
        time.sleep(3)
        admin = json.loads((bench.directory / f"gateway-{gateway.url.rpartition(':')[2]}.json").read_text())["admin_port"]
        metrics = counted(fetch(f"http://127.0.0.1:{admin}/metrics"))
        held = json.loads(fetch(f"http://127.0.0.1:{admin}/status"))["slots_in_use"]
        log = logged(directory)
        third = max(1, len(memory) // 3)
        early, late = statistics.mean(memory[:third]), statistics.mean(memory[-third:])
        print(f"memory: {early:.1f} MB in the first third, {late:.1f} MB in the last; slots held at the end: {held}")
        print(f"clients {dict(seen)}\nmetrics {dict(metrics)}\nlog     {dict(log)}")
        print(f"codes {dict(logged(directory, 'code'))}")
        print("".join(line for line in gateway.log.read_text().splitlines(keepends=True) if "backend" in line or "event" in line))
        answered = seen["status 200"]
        same = metrics == log and answered <= log["ok"] <= answered + seen["left"] and log.total() <= sum(seen.values())
        return 0 if same and not held and not any(log[outcome] for outcome in LOST) else 1


if __name__ == "__main__":
    sys.exit(main())

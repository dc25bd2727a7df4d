"""The tests that need a CUDA card and the official benches, one after another; what is done is kept when the rest is cut off.

    make gpu                                  the tests
    make gpu-bench                            the benches
    PYTHONPATH=operator:tests:hack python -m bench.on_card [--only decode start] [--without chain] [--skip-done]
        [--into build/card] [--pack /tmp/pack] [--seconds 560] [--dry-run]

Needs a machine with torch, Triton and transformers; no network. What else is missing is said before anything runs: put it into a
folder and name that in PYTHONPATH (`make gpu GPU_PACKAGES=folder`). Each has its limit of seconds, its output in INTO/NAME.log
as it comes, and at its end INTO/NAME.json. `--seconds`: nothing is begun that would hardly end within so many. At the end a
table of what was measured beside the bars is printed, that of earlier calls included. Returns 1 if a test failed or a bench
did not end.
"""

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from bench.card_benches import BENCHES, ROOT, Bench
from needed_imports import needed

GRACE = 10
"""Seconds between asking a process to end and ending it."""


def missing(bench: Bench, pack: Path | None) -> str:
    """Why it can't run here, or nothing."""
    if bench.packed and pack is None:
        return "needs --pack"
    if bench.packed:
        return ""
    lacking = [name for name in needed(bench.files) if importlib.util.find_spec(name) is None]
    return f"lacks {', '.join(lacking)}" if lacking else ""


def broken_transformers() -> str:
    """It offers no networks where a package it uses can't be imported, as where an older numpy hides the machine's; that comes to
    light late, and is said badly."""
    done = subprocess.run(
        [sys.executable, "-c", "from transformers import LlamaForCausalLM"], capture_output=True, text=True, check=False
    )
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


def cards() -> list[str]:
    try:
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return []


def environment(bench: Bench, pack: Path | None) -> dict[str, str]:
    own = [str(ROOT / name) for name in ("operator", "tests", "hack")]
    more = [str(pack / "packages")] if bench.packed and pack else os.environ.get("PYTHONPATH", "").split(os.pathsep)
    path = os.pathsep.join(dict.fromkeys([*own, *filter(None, more)]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def run(bench: Bench, into: Path, pack: Path | None, limit: float) -> dict[str, object]:
    """Its result, which is in INTO/NAME.json too. Ends all its processes after `limit` seconds."""
    arguments = [argument.format(pack=pack) for argument in bench.arguments]
    files = [str(file.relative_to(ROOT)) for argument in arguments if "*" in argument for file in sorted(ROOT.glob(argument))]
    command = [sys.executable, *(argument for argument in arguments if "*" not in argument), *files]
    began = time.monotonic()
    outcome = "interrupted"
    with (into / f"{bench.name}.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(bench, pack), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", start_new_session=True,
        )  # fmt: skip
        late = threading.Timer(limit, end, (process,))
        late.start()
        try:
            assert process.stdout
            for line in process.stdout:
                log.write(line)
                log.flush()
                print(line, end="", flush=True)
            code = process.wait()
            cut = time.monotonic() - began >= limit
            outcome = f"cut after {limit:.0f} s" if cut else f"failed: {code}" if code else "done"
        finally:
            late.cancel()
            end(process, 0)
            result = {"name": bench.name, "outcome": outcome, "seconds": round(time.monotonic() - began, 1), "cards": cards()}
            (into / f"{bench.name}.json").write_text(json.dumps(result | {"measured": measured(bench, into)}, indent=1))
    return result


def end(process: "subprocess.Popen[str]", grace: float = GRACE) -> None:
    """The process and all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        until = time.monotonic() + grace
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)


def measured(bench: Bench, into: Path) -> dict[str, float]:
    log = into / f"{bench.name}.log"
    text = log.read_text() if log.exists() else ""
    return {bar.what: value for bar in bench.bars if (value := bar.find(text)) is not None}


def summary(benches: Sequence[Bench], into: Path, refused: dict[str, str]) -> str:
    """A table in Markdown, of all that ran in this call and in earlier ones."""
    lines = ["| what | bar | measured | |", "|---|---|---|---|"]
    for bench in benches:
        file = into / f"{bench.name}.json"
        result = json.loads(file.read_text()) if file.exists() else {"outcome": refused.get(bench.name, "not run"), "seconds": 0}
        lines.append(f"| **{bench.name}** | | {result['seconds']} s | {result['outcome']} |")
        for bar in bench.bars:
            value = result.get("measured", {}).get(bar.what)
            if value is not None:
                word = {None: "", True: "met", False: "missed"}[bar.is_met(value)]
                lines.append(f"| {bar.what} | {bar.bar} | {value:,g} | {word} |")
            elif result["outcome"] == "done" and bar.bar and bar.bar != "<= 0":
                lines.append(f"| {bar.what} | {bar.bar} | not printed | |")
    return "\n".join(lines)


def choose(names: Sequence[str], without: Sequence[str]) -> list[Bench]:
    if unknown := {*names, *without} - {bench.name for bench in BENCHES}:
        raise SystemExit(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(bench.name for bench in BENCHES)}")
    return [bench for bench in BENCHES if (not names or bench.name in names) and bench.name not in without]


def refuse(chosen: Sequence[Bench], pack: Path | None, there: int) -> dict[str, str]:
    """{name: why it can't run here}"""
    lacks = {bench.name: missing(bench, pack) for bench in chosen}
    few = {bench.name: f"needs {bench.cards} cards" for bench in chosen if bench.cards > there}
    users = [bench for bench in chosen if not lacks[bench.name] and "transformers" in needed(bench.files)]
    broken = broken_transformers() if users else ""
    return few | {name: why for name, why in lacks.items() if why} | {bench.name: broken for bench in users if broken}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--without", nargs="+", default=[])
    parser.add_argument("--skip-done", action="store_true")
    parser.add_argument("--into", type=Path, default=ROOT / "build" / "card")
    parser.add_argument("--pack", type=Path)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args(arguments)
    until = time.monotonic() + options.seconds
    options.into.mkdir(parents=True, exist_ok=True)
    chosen = choose(options.only, options.without)
    refused = refuse(chosen, options.pack, len(cards()))
    for bench in chosen:
        print(f"{bench.name}: {bench.seconds} s, at most {bench.limit}: {' '.join(bench.arguments)}", end="; ")
        print(refused.get(bench.name, "can run"), flush=True)
    if options.dry_run:
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    for bench in chosen:
        file = options.into / f"{bench.name}.json"
        done = file.exists() and json.loads(file.read_text())["outcome"] == "done"
        if bench.name in refused or (options.skip_done and done):
            continue
        left = until - time.monotonic()
        if left < bench.seconds:
            refused[bench.name] = f"no time: {left:.0f} s were left"
            continue
        print(f"--- {bench.name}", flush=True)
        run(bench, options.into, options.pack, min(bench.limit, left))
    print(summary(chosen, options.into, refused), flush=True)
    results = [options.into / f"{bench.name}.json" for bench in chosen]
    return int(not all(file.exists() and json.loads(file.read_text())["outcome"] == "done" for file in results))


if __name__ == "__main__":
    sys.exit(main())

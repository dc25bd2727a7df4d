"""What `on_card` runs, the most worth first, and the bars that docs/performance.md holds each against.

It knows what benches print and runs none. A pattern is the printed words with `*` for a number and `@` for the one that counts;
a test looks for its words in the bench's source.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "tests" / "bench"
NUMBER = r"[+-]?[\d.,]*\d"


@dataclass(frozen=True)
class Bar:
    what: str
    pattern: str
    bar: str = ""
    """`<= 3` or `>= 0.85`; nothing: only said."""
    number: int = 0
    """Of the places where the pattern is found; -1: the last."""

    def find(self, log: str) -> float | None:
        pattern = re.escape(" ".join(self.pattern.split()))
        for escaped, meant in ((r"\ ", r"\s*"), (r"\*", NUMBER), ("@", f"({NUMBER})")):
            pattern = pattern.replace(escaped, meant)
        found = re.findall(pattern, log)
        return float(found[self.number].replace(",", "")) if -len(found) <= self.number < len(found) else None

    def is_met(self, value: float) -> bool | None:
        if not self.bar:
            return None
        sense, limit = self.bar.split()
        return value <= float(limit) if sense == "<=" else value >= float(limit)


@dataclass(frozen=True)
class Bench:
    name: str
    arguments: tuple[str, ...]
    """Of Python; {pack} is where `chain_pack`'s file was unpacked."""
    seconds: int
    """What it takes about, on an H100."""
    limit: int
    bars: tuple[Bar, ...] = ()
    sources: tuple[str, ...] = ()
    """Files whose imports it needs, from the root; default: the script."""
    cards: int = 1
    packed: bool = False
    """Whether it runs on the packages of `chain_pack`."""

    @property
    def files(self) -> list[Path]:
        names = self.sources or tuple(name for name in self.arguments if name.endswith(".py"))
        return [file for name in names for file in sorted(ROOT.glob(name))]


def script(name: str, *arguments: str, seconds: int, limit: int, bars: tuple[Bar, ...] = (), **more: object) -> Bench:
    file = f"tests/bench/{more.pop('file', name + '_cuda')}.py"
    return Bench(name, (file, *arguments), seconds, limit, bars, **more)  # type: ignore[arg-type]


TESTS = tuple(f"tests/unit/engine/test_{name}.py" for name in ("cuda_*", "card_kernels", "product_kernels"))
EVERY = ("1", "2", "4", "8", "16", "32", "64", "128", "192", "256")
BENCHES = [
    Bench(
        "tests",
        ("-m", "pytest", "-v", "-p", "no:cacheprovider", "--durations=15", *TESTS),
        250,
        540,
        (Bar("tests passed", "@ passed", "", -1), Bar("failed", "@ failed", "<= 0", -1), Bar("errors", "@ error", "<= 0", -1)),
        sources=(*TESTS, "tests/unit/engine/conftest.py"),
    ),
    script(
        "decode", "--batches", *EVERY, seconds=90, limit=240,
        bars=(
            Bar("INT8, one sequence", " 8 bits, 1: * ms, * tokens/s, @ x", ">= 1.8"),
            Bar("INT4, one sequence", " 4 bits, 1: * ms, * tokens/s, @ x", ">= 2.5"),
            *(
                Bar(f"INT{bits}, {batch} sequences", f" {bits} bits, {batch}: * ms, * tokens/s, @ x", ">= 1.0")
                for bits in (8, 4)
                for batch in EVERY[1:]
            ),
        ),
    ),
    Bench(
        "admitted",
        ("-m", "bench.admitted", "--device", "cuda", "--count", "1000", "--workers", "14", "--each"),
        190,
        420,
        (
            Bar("random configurations", "@ configurations:"),
            Bar("failed or above their cap", "failed or above the cap: @", "<= 0"),
        ),
        sources=("tests/bench/admitted.py",),
    ),
    script(
        "start", file="engine_start_cuda", seconds=110, limit=240,
        bars=(
            Bar("first token, kernels new, s", "16 bits: Python after * s, loaded * s, first token @ s", "<= 10"),
            Bar("first token, s", "16 bits: Python after * s, loaded * s, first token @ s", "<= 10", 1),
            Bar("INT8, kernels new, s", "INT8, 24 GB: Python after * s, loaded * s, first token @ s", "<= 10"),
            Bar("INT8, s", "INT8, 24 GB: Python after * s, loaded * s, first token @ s", "<= 10", 1),
            Bar("INT8 in 24 GB, tokens/s", "INT8, 24 GB: Python after * s, loaded * s, first token * s; @ tokens/s", ">= 8"),
        ),
    ),
    Bench(
        "chain",
        ("-m", "bench.chain_cuda", "--pack", "{pack}", "--rounds", "2"),
        330,
        520,
        (
            Bar("first token, kernels new, s", "None, kernels new: loaded in * s, ready * s, first token @ s", "<= 10"),
            Bar("first token, s", "None, again: loaded in * s, ready * s, first token @ s", "<= 10"),
            Bar("INT8, kernels new, s", "INT8, kernels new: loaded in * s, ready * s, first token @ s", "<= 10"),
            Bar("one stream, gateway, of the limit", "1 streams at * tokens: gateway * tok/s, @ of the limit", ">= 0.85"),
            Bar("64 streams, gateway, of the limit", "64 streams at * tokens: gateway * tok/s, @ of the limit", ">= 0.75"),
            Bar("channel, first of 512, ms more", "0 streams beside: raw * ms (*), channel * ms (@)", "<= 3"),
            Bar("the same beside 63, ms more", "63 streams beside: raw * ms (*), channel * ms (@)", "<= 3"),
            Bar("7,000 tokens answered in 200, s", "answered in 200: first * s, whole @ s", "<= 3"),
        ),
        sources=("tests/bench/chain_cuda.py", "tests/bench/chain_raw.py", "operator/localmodel/gateway/__main__.py"),
        packed=True,
    ),
    script(
        "waits", file="engine_waits_cuda", seconds=110, limit=240,
        bars=(
            Bar("first token, 90 % cached", "with 90 % cached * ms (@)", "<= 0.2"),
            Bar("looking for prefixes, %", "ms without a look for prefixes, * with (@%)", "<= 1"),
            Bar("p99 gap beside long prompts", "ms beside prompts of 16,000 (@)", "<= 2"),
            Bar("7,000 tokens answered in 200, s", "answered in 200: @ s", "<= 3"),
        ),
    ),
    script(
        "engine", "--batches", *EVERY, "--quantizations", "None", "INT8", "INT4", "--rounds", "1", seconds=400, limit=580,
        bars=(
            Bar("16 bits, one sequence, of the limit", "batch 1: * tok/s, @ of the limit", ">= 0.85"),
            Bar("16 bits, 64 sequences, of the limit", "batch 64: * tok/s, @ of the limit", ">= 0.75"),
        ),
    ),
    script(
        "offline", seconds=270, limit=540,
        bars=(
            Bar("against continuous batching", "continuous batching, flash: * s, * (@ x)", ">= 1.5"),
            Bar("against one after another", "tokens made a second over * requests (@ x)", ">= 10"),
        ),
    ),
    script("rounding", seconds=60, limit=200, bars=(Bar("a network of 7B is rounded, s", "28 layers: @ s"),)),
    script("steps", seconds=120, limit=300, bars=(Bar("16 decode, ms", "16 decode: @ ms"),)),
    script(
        "transformers", "--batches", "1", "16", "--rounds", "2", "--transformers", file="engine_cuda", seconds=120, limit=300,
        bars=(Bar("against transformers, one sequence", "transformers * (@ x)"),),
    ),
    script(
        "speculation", seconds=240, limit=400,
        bars=(
            Bar("guesses, one sequence that copies", " 1 sequences, copies all: * tokens/s, guessing * (@ x)"),
            Bar("guesses, one sequence that does not", " 1 sequences, copies nothing: * tokens/s, guessing * (@ x)"),
            Bar("guesses, 16 sequences that do not", "16 sequences, copies nothing: * tokens/s, guessing * (@ x)"),
        ),
    ),
    script("weights", "--rows", "1", "16", "64", "128", "256", file="weights_cuda", seconds=60, limit=200),
    script(
        "ranks", "--rounds", "1", seconds=150, limit=400, cards=2,
        bars=(Bar("two cards, one sequence", "batch 1: * tok/s on one, * on 2: @ x"),),
    ),
    Bench(
        "chain_ranks",
        ("-m", "bench.chain_cuda", "--pack", "{pack}", "--parts", "ranks", "--cards", "2", "--rounds", "2"),
        180,
        450,
        (
            Bar("two cards in Triton, one stream", "1 streams through the gateway: * tok/s on one, * on 2: @ x"),
            Bar("two cards in Triton, 64 streams", "64 streams through the gateway: * tok/s on one, * on 2: @ x"),
            Bar("a killed rank, serving again, s", "serving again @ s after the kill"),
            Bar("processes left of its instance", "processes of the dead instance that are left: @ of", "<= 0"),
        ),
        sources=("tests/bench/chain_cuda.py", "tests/bench/chain_ranks.py", "tests/bench/chain_raw.py"),
        cards=2,
        packed=True,
    ),
]  # fmt: skip

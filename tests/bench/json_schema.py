"""What a JSON schema costs per token: our masks, and xgrammar's beside them where it is installed.

    PYTHONPATH=operator python tests/bench/json_schema.py [MODEL DIRECTORY]

Prints microseconds to fill one mask and take in one token, median and mean over a document, milliseconds to compile, and the
ratio of the medians. One thread; both walk the same tokens alternately, five times.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from localmodel.engine.constraint import mask_words
from localmodel.engine.json_schema import JsonSchemas

DEFAULT = Path.home() / ".cache" / "localmodel" / "models" / "smollm2-135m-instruct"
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 5},
        "kind": {"enum": ["a", "b", "c"]},
    },
    "required": ["name", "age", "tags", "kind"],
    "additionalProperties": False,
}
SCHEMAS = {"object with fields": json.dumps(PERSON), "any object": '{"type": "object"}'}
DOCUMENT = {"name": "Anna-Maria Lindström from the north", "age": 42, "tags": ["blue", "a long tag", "x"], "kind": "b"}
ROUNDS = 5

Walk = Callable[[list[int]], Iterator[float]]
"""Seconds of each token of a document, from a fresh start."""


def timed(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def ours(schemas: JsonSchemas, schema: str, vocabulary: int) -> Walk:
    mask = np.empty(mask_words(vocabulary), dtype=np.int32)

    def walk(ids: list[int]) -> Iterator[float]:
        constraint = schemas.compile(schema)
        for number in range(len(ids)):
            yield timed(partial(constraint.fill_mask, ids[:number], mask))

    return walk


def xgrammar(model: Path, schema: str, vocabulary: int) -> tuple[Walk, float] | None:
    try:
        import xgrammar
        from transformers import AutoTokenizer
    except ImportError:
        return None
    info = xgrammar.TokenizerInfo.from_huggingface(AutoTokenizer.from_pretrained(model), vocab_size=vocabulary)
    began = time.perf_counter()
    grammar = xgrammar.GrammarCompiler(info, max_threads=1).compile_json_schema(schema)
    seconds, mask = time.perf_counter() - began, xgrammar.allocate_token_bitmask(1, vocabulary)

    def walk(ids: list[int]) -> Iterator[float]:
        matcher = xgrammar.GrammarMatcher(grammar)
        for token in ids:
            filled = timed(partial(matcher.fill_next_token_bitmask, mask, 0))
            yield filled + timed(partial(matcher.accept_token, token))

    return walk, seconds


def main() -> None:
    model = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    config = json.loads((model / "config.json").read_text())
    ends = config["eos_token_id"] if isinstance(config["eos_token_id"], list) else [config["eos_token_id"]]
    vocabulary, ids = config["vocab_size"], tokenizer.encode(json.dumps(DOCUMENT, ensure_ascii=False)).ids
    schemas = JsonSchemas(model / "tokenizer.json", vocabulary, ends)
    print(f"the tokenizer once: {timed(lambda: schemas.compile('{}')):.2f} s; {len(ids)} tokens of {vocabulary}")
    for name, schema in SCHEMAS.items():
        compiled = timed(partial(schemas.compile, schema))
        walks, seconds = {"ours": ours(schemas, schema, vocabulary)}, {"ours": compiled}
        if other := xgrammar(model, schema, vocabulary):
            walks["xgrammar"], seconds["xgrammar"] = other
        times: dict[str, list[float]] = {who: [] for who in walks}
        for _ in range(ROUNDS):
            for who, walk in walks.items():
                times[who] += walk(ids)
        for who, values in times.items():
            median, mean = statistics.median(values) * 1e6, statistics.mean(values) * 1e6
            print(f"{name:20} {who:9} median {median:6.1f} us, mean {mean:6.1f} us, compiled in {seconds[who] * 1e3:6.1f} ms")
        if other:
            print(f"{name:20} ours / xgrammar {statistics.median(times['ours']) / statistics.median(times['xgrammar']):.2f}")


if __name__ == "__main__":
    main()

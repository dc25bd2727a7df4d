"""A process that has imported only what it needs of torch computes what any other does."""

import json
import os
import subprocess
import sys
from pathlib import Path

from engine_runs import make_prompts, run_greedy
from localmodel.api.engine import EngineConfig
from localmodel.engine.loader import load_model
from localmodel.engine.service import build_engine

TESTS = Path(__file__).parents[2]
CASES = [(kind, bits) for kind in ("llama", "mistral", "qwen2", "qwen3", "gemma3") for bits in ("None", "INT8")]
SCRIPT = """
import json, sys
from localmodel.engine.torch_import import import_torch
import_torch()
import torch
from test_torch_import import answers
for line in sys.stdin:
    print(json.dumps(answers(json.loads(line))))
import localmodel.engine.embedding_service
assert "torch._refs" not in sys.modules and not hasattr(torch, "_meta_registrations"), "half a second for nothing"
import torch._meta_registrations
assert "torch._refs" in sys.modules and torch._meta_registrations.activate_meta, "who asks for it gets it"
"""


def answers(config: dict) -> list[list[int]]:
    engine = build_engine(load_model(EngineConfig(**config)))
    return run_greedy(engine, make_prompts(3, 5, 60))


def test_the_answers_of_all_families_are_the_same_and_what_was_left_out_can_still_be_had(engine_config):
    configs = [engine_config(kind, quantization=bits).model_dump(mode="json") for kind, bits in CASES]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(Path(__file__).parent), *sys.path])}
    lines = "".join(json.dumps(config) + "\n" for config in configs)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], input=lines, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [answers(config) for config in configs]

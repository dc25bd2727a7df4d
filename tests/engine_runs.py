"""Runs a bare engine, without threads or channel, over prompts made up from a seed."""

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from localmodel.api.channel import Sampling
from localmodel.engine.service import build_engine


def run_all(engine, requests):
    """requests: {key: (prompt, sampling)}, all at once -> {key: tokens}."""
    answers = {key: [] for key in requests}
    for key, (prompt, sampling) in requests.items():
        engine.add_request(key, prompt, sampling)
    while any(engine.load()[:2]):
        for output in engine.step():
            answers[output.key].append(output.token)
    return answers


def run_greedy(engine, prompts, count=12):
    """Greedy tokens of every prompt, all submitted at once."""
    sampling = Sampling(temperature=0, max_tokens=count, ignore_eos=True)
    return list(run_all(engine, {key: (prompt, sampling) for key, prompt in enumerate(prompts)}).values())


ALONE = "LOCALMODEL_TEST_ALONE"
BESIDE = "LOCALMODEL_TEST_BESIDE"


def card_used() -> int:
    """Bytes of the card that processes have; in one that `passes_alone` started, without those of its parent."""
    free, total = torch.cuda.mem_get_info()
    return int(total - free) - int(os.environ.get(BESIDE, "0"))


def passes_alone(request: Any) -> bool:
    """False in a process of its own, which this starts for the test of `request`: what a process takes of a card depends on all
    that it has run. Fails if that process does."""
    name = request.node.nodeid
    if os.environ.get(ALONE) == name:
        return False
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", name]
    environment = {**os.environ, ALONE: name, BESIDE: str(card_used())}
    done = subprocess.run(command, cwd=request.config.rootpath, env=environment, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    return True


def compile_in_another(script: Path, cache: Path, *arguments: str) -> list[list[str]]:
    """Words of the lines of a process where Triton compiles: other tests use its interpreter."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(cache), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, str(script), *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return [line.split() for line in done.stdout.splitlines()]


def make_prompts(count, shortest, longest, seed=3):
    source = random.Random(seed)
    return [[source.randrange(256) for _ in range(source.randint(shortest, longest))] for _ in range(count)]


def run_logged(model, requests):
    """(what each request was told, rows of each step)."""
    engine = build_engine(model)
    launch, counts = engine._launch, []

    def noting(works):
        counts.append(sum(work.count for work in works))
        return launch(works)

    engine._launch = noting
    for key, (prompt, sampling) in enumerate(requests):
        engine.add_request(key, prompt, sampling)
    told = [[] for _ in requests]
    while any(engine.load()[:2]):
        for output in engine.step():
            told[output.key].append((output.token, output.logprob))
    return told, counts

"""A network over several cards: the tokens of one card, in graphs and beside them, and the end when a card's process ends."""

import json
import os
import signal
import subprocess
import textwrap
import time

import pytest
import torch

from engine_runs import make_prompts, run_greedy
from localmodel.api.engine_failure import parse_engine_failure
from localmodel.engine.interpreter import environment, find_interpreter
from localmodel.engine.loader import load_model
from localmodel.engine.service import build_engine

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(torch.cuda.device_count() < 2, reason="no two CUDA cards")]
LONG = 2048


ANSWER = """
    import json, sys
    from engine_runs import run_greedy
    from localmodel.api.engine import EngineConfig
    from localmodel.engine.service import EngineService
    prompts = json.loads(sys.argv[2])
    service = EngineService(EngineConfig.model_validate_json(sys.argv[1]), log=print, exit_process=lambda: None)
    together = run_greedy(service.engine, prompts, 24)
    alone = [run_greedy(service.engine, [prompt], 24)[0] for prompt in prompts[:3]]
    model = service._model
    service.start()
    service.stop()
    print(json.dumps([together, alone, model.rounding, model.cache.keys.shape[2]]))
"""


@pytest.mark.parametrize(
    "cards, kind, options",
    [
        (2, "llama", {}),
        (2, "biased", {}),
        (2, "qwen2-window", {}),
        (2, "qwen3", {}),
        (2, "gemma3", {}),
        (2, "mistral-4", {"quantization": "INT8"}),
        (2, "qwen2-4", {"quantization": "INT4"}),
        (4, "llama-4", {}),
        (4, "qwen2-4", {"quantization": "INT8"}),
    ],
)
def test_greedy_tokens_are_those_of_one_card(cuda_config, edit_config, cards, kind, options):
    """Prompts of many lengths arrive beside streams, so that steps of every kind come. The process with several cards ends by
    itself: nothing waits for the others."""
    if torch.cuda.device_count() < cards:
        pytest.skip(f"no {cards} CUDA cards")
    config = {"context_window": LONG, "max_batch_size": 8, "gpu_memory_bytes": 2 * 2**30, **options}
    directory = edit_config(kind, max_position_embeddings=LONG)
    guessed = [[9] * 40, [1, 2, 3, 4] * 10]
    prompts = [*guessed, *make_prompts(12, 1, 100), *make_prompts(3, 300, 1500, seed=4)]
    one = load_model(cuda_config(directory, gpu_count=1, **config))
    expected = run_greedy(build_engine(one), prompts, 24)
    several = cuda_config(directory, gpu_count=cards, **config).model_dump_json()
    command = [find_interpreter(), "-c", textwrap.dedent(ANSWER), several, json.dumps(prompts)]
    printed = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True, timeout=70, check=True).stdout
    together, alone, rounding, heads = json.loads(printed.splitlines()[-1])
    assert together == expected and alone == expected[:3]
    assert rounding == one.rounding and heads * cards == one.cache.keys.shape[2]


def test_the_process_ends_when_a_card_s_process_is_killed(cuda_config):
    """In a process of its own: what waits on a card for a rank that is gone can't be called back."""
    code = """
        import json, os, sys, time
        from localmodel.api.engine import EngineConfig
        from localmodel.engine.service import EngineService

        class Stream:
            def send(self, text, *, final=False):
                print(text, flush=True)
            def close(self):
                pass
            def is_cancelled(self):
                return False

        service = EngineService(EngineConfig.model_validate_json(sys.argv[1]), log=print, exit_process=lambda: os._exit(70))
        service.start()
        print("pid", service._ranks._processes[0].pid, flush=True)
        sampling = {"temperature": 0, "max_tokens": 100, "ignore_eos": True}
        for _ in range(200):  # far more than are answered until the end
            request = {"op": "generate", "prompt": [1, 2, 3], "sampling": sampling}
            service.handle(json.dumps(request), Stream())
        time.sleep(100)
    """
    config = cuda_config("mistral", gpu_count=2, max_batch_size=1, gpu_memory_bytes=2 * 2**30)
    command = [find_interpreter(), "-c", textwrap.dedent(code), config.model_dump_json()]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as first:
        lines = iter(first.stdout.readline, "")
        pid = next(int(line.split()[1]) for line in lines if line.startswith("pid"))
        os.kill(pid, signal.SIGKILL)
        began = time.monotonic()
        rest = list(lines)
        assert first.wait(30) == 70
    print(f"ended after {time.monotonic() - began:.2f} s")
    errors = [json.loads(line)["error"] for line in rest if line.startswith("{") and '"error"' in line]
    failures = [parse_engine_failure(error) for error in errors]
    assert failures and all("was killed by SIGKILL" in failure.message and "GPU 1" in failure.message for failure in failures)

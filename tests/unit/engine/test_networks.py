"""Our networks against transformers, in float32 and token by token."""

import json
import random

import pytest
import torch

from engine_runs import run_all
from localmodel.api.channel import Sampling
from localmodel.engine.families import choose_decoder
from localmodel.engine.layers import RotaryTable
from localmodel.engine.loader import load_model
from localmodel.engine.rope import parse_rope
from localmodel.engine.service import build_engine

KINDS = [
    "llama", "llama3", "linear", "yarn", "biased", "mistral", "mistral-window", "qwen2", "qwen2-window", "qwen3", "gemma3",
]  # fmt: skip


def prompts(count, longest, seed=3):
    source = random.Random(seed)
    return [[source.randrange(256) for _ in range(source.randint(1, longest))] for _ in range(count)]


def reference(directory, prompt, count):
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    made = network.generate(torch.tensor([prompt]), max_new_tokens=count, do_sample=False, pad_token_id=258)
    return made[0, len(prompt) :].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_tokens_are_those_of_transformers_batched_and_alone(engine_config, make_model, kind):
    engine = build_engine(load_model(engine_config(kind, max_batch_size=3)))
    sampling = Sampling(temperature=0, max_tokens=12)
    some = prompts(6, 100)
    expected = dict(enumerate(reference(make_model(kind), prompt, 12) for prompt in some))
    assert run_all(engine, {key: (prompt, sampling) for key, prompt in enumerate(some)}) == expected
    for key, prompt in enumerate(some):
        assert run_all(engine, {key: (prompt, sampling)}) == {key: expected[key]}


@pytest.mark.parametrize(
    "parameters",
    [
        {"rope_type": "default"},
        {"rope_type": "linear", "factor": 4.0},
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
        {"rope_type": "yarn", "factor": 4.0},
        {"rope_type": "yarn", "factor": 40.0, "beta_fast": 8, "beta_slow": 2, "mscale": 1.0, "mscale_all_dim": 0.7},
        {"rope_type": "yarn", "factor": 8.0, "attention_factor": 0.9, "truncate": False},
    ],
)
def test_positions_are_turned_as_in_transformers(parameters):
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    parameters = {"rope_theta": 5e5, "original_max_position_embeddings": 512, **parameters}
    config = LlamaConfig(hidden_size=256, num_attention_heads=4, max_position_embeddings=4096, rope_parameters=dict(parameters))
    cos, sin = LlamaRotaryEmbedding(config)(torch.zeros(1), torch.arange(300)[None])
    rope = parse_rope({"max_position_embeddings": 4096, "rope_parameters": parameters})
    table = RotaryTable(rope, 64, 300, torch.float32, torch.device("cpu"))
    assert torch.allclose(table.cos, cos[0], atol=1e-5)
    assert torch.allclose(torch.cat([-table.sin[:, :32], table.sin[:, 32:]], dim=-1), sin[0], atol=1e-5)


@pytest.mark.parametrize(
    "kind, keys",
    [
        ("Llama", {"sliding_window": 8}),
        ("Mistral", {}),
        ("Mistral", {"sliding_window": None}),
        ("Mistral", {"sliding_window": 8, "layer_types": ["full_attention", "sliding_attention"]}),
        ("Mistral", {"sliding_window": 8, "use_sliding_window": False, "max_window_layers": 1}),
        ("Qwen2", {"sliding_window": 8}),
        ("Qwen2", {"sliding_window": 8, "use_sliding_window": True}),
        ("Qwen3", {"use_sliding_window": True, "max_window_layers": 1}),
        ("Qwen3", {"sliding_window": 8, "use_sliding_window": True, "layer_types": ["sliding_attention", "full_attention"]}),
    ],
)
def test_what_a_layer_sees_is_what_transformers_makes_of_the_file(tmp_path, kind, keys):
    """Also where a hand or another tool wrote it, and left out what transformers always writes."""
    from transformers import AutoConfig

    raw = {
        "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 96, "vocab_size": 259,
        "max_position_embeddings": 128, "num_key_value_heads": 2, **keys,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind.lower(), **raw}))
    theirs = AutoConfig.from_pretrained(tmp_path)
    everywhere = "sliding_attention" if kind == "Mistral" else "full_attention"
    kinds = getattr(theirs, "layer_types", None) or [everywhere] * 2
    windows = tuple(theirs.sliding_window if each == "sliding_attention" else None for each in kinds)
    assert choose_decoder(f"{kind}ForCausalLM").parse(raw).windows == windows


@pytest.mark.parametrize(
    ("kind", "sizes", "absent"),
    [
        ("Mistral", {"num_attention_heads": 16}, "num_key_value_heads"),
        ("Qwen2", {"hidden_size": 128, "num_attention_heads": 64}, "num_key_value_heads"),
        ("Qwen3", {"num_key_value_heads": 2}, "head_dim"),
    ],
)
def test_what_a_file_leaves_out_is_what_transformers_takes(tmp_path, engine_config, byte_tokenizer, kind, sizes, absent):
    import transformers

    torch.manual_seed(5)
    usual = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 96, "vocab_size": 259}
    more = {"max_position_embeddings": 128, "initializer_range": 0.3, "eos_token_id": 257, "bos_token_id": 256}
    config = getattr(transformers, f"{kind}Config")(**{**usual, **more, **sizes})
    getattr(transformers, f"{kind}ForCausalLM")(config).save_pretrained(tmp_path)
    byte_tokenizer.save(str(tmp_path / "tokenizer.json"))
    written = json.loads((tmp_path / "config.json").read_text())
    del written[absent]
    (tmp_path / "config.json").write_text(json.dumps(written))
    prompt = prompts(1, 40)[0]
    engine = build_engine(load_model(engine_config(tmp_path)))
    made = run_all(engine, {1: (prompt, Sampling(temperature=0, max_tokens=12))})
    assert made == {1: reference(tmp_path, prompt, 12)}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_seed_gives_the_same_tokens_in_any_company(engine_config, dtype):
    engine = build_engine(load_model(engine_config("llama", max_batch_size=4, dtype=dtype)))
    some = prompts(7, 100, seed=5)
    requests = {
        key: (prompt, Sampling(temperature=1, top_p=0.95, seed=key, max_tokens=20, ignore_eos=True))
        for key, prompt in enumerate(some)
    }
    together = run_all(engine, requests)
    alone = {key: run_all(engine, {key: request})[key] for key, request in requests.items()}
    assert together == alone
    other = {key: (prompt, sampling.model_copy(update={"seed": key + 100})) for key, (prompt, sampling) in requests.items()}
    assert run_all(engine, other) != together


def test_a_negative_seed_is_not_the_positive_one(engine_config):
    """The choices of a request with seed -1 have the seeds -1, 0, 1."""
    engine = build_engine(load_model(engine_config("llama")))
    requests = {seed: ([1, 2, 3], Sampling(seed=seed, max_tokens=12, ignore_eos=True)) for seed in range(-3, 4)}
    made = run_all(engine, requests)
    assert len({tuple(tokens) for tokens in made.values()}) == 7
    assert run_all(engine, {-2: requests[-2]}) == {-2: made[-2]}


def test_a_slot_used_before_changes_nothing(engine_config):
    engine = build_engine(load_model(engine_config("llama", max_batch_size=1)))
    sampling = Sampling(temperature=0, max_tokens=10, ignore_eos=True)
    long, short = prompts(1, 5)[0], [7] * 90
    first = run_all(engine, {0: (long, sampling)})
    run_all(engine, {1: (short, sampling)})
    assert run_all(engine, {0: (long, sampling)}) == first

"""Every way in which a model directory can be wrong, and the words the user gets."""

import itertools
import json
import math
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from localmodel.api.engine import LoadErrorCode, parse_load_failure
from localmodel.api.load_progress import LoadProgress, progress_path
from localmodel.engine import errors, progress_file
from localmodel.engine.bert import parse_bert_config
from localmodel.engine.families import DECODERS
from localmodel.engine.gemma3 import parse_gemma3_config
from localmodel.engine.layers import RotaryTable
from localmodel.engine.loader import load_model
from localmodel.engine.model_directory import open_model_directory
from localmodel.engine.network_config import parse_network_config
from localmodel.engine.rope import Rope
from unreadable import as_another_user, open_directory


def failure(config):
    with pytest.raises(errors.LoadError) as caught:
        load_model(config)
    found = parse_load_failure(f"failed to load 'llm': Internal: Error: {caught.value}\n\nAt:\n  /x.py(1): initialize\n")
    assert found is not None
    assert found.code == caught.value.code
    return found


def test_every_code_has_its_class_and_its_message_begins_with_it():
    classes = {cls.code: cls for cls in errors.LoadError.__subclasses__()}
    assert set(classes) == set(LoadErrorCode)
    assert str(classes[LoadErrorCode.OUT_OF_MEMORY]("x")) == "[OutOfMemory] x"
    assert parse_load_failure("failed to load 'llm', no such file") is None


def test_loads_every_shard_and_counts_parameters(engine_config, make_model, tmp_path):
    source = load_file(make_model("llama") / "model.safetensors")
    names = sorted(source)
    halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in halves.items():
        save_file({name: source[name] for name in part}, tmp_path / file)
    index = {"weight_map": {name: file for file, part in halves.items() for name in part}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((make_model("llama") / name).read_bytes())
    model = load_model(engine_config(tmp_path))
    assert model.parameters == sum(tensor.numel() for tensor in source.values())
    for name, place in model.network.tensors():
        assert torch.equal(place, source[name]), name
    (tmp_path / "b.safetensors").unlink()
    assert re.search("absent: b.safetensors", failure(engine_config(tmp_path)).message)


def test_no_directory_says_what_is_expected(engine_config, tmp_path):
    found = failure(engine_config(tmp_path / "nothing"))
    assert found.code == "ModelFilesMissing"
    assert "does not exist" in found.message and "config.json" in found.message


def test_no_config_says_what_is_there(engine_config, tmp_path):
    (tmp_path / "weights.bin").touch()
    found = failure(engine_config(tmp_path))
    assert (found.code, "weights.bin" in found.message) == ("ModelFilesMissing", True)


def test_only_pickles(engine_config, edit_config):
    directory = edit_config("llama")
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    assert "pytorch_model.bin can't be used: convert to safetensors" in failure(engine_config(directory)).message


@pytest.mark.parametrize("keep", [0, 7, 1000, -100])
def test_truncated_weights(engine_config, edit_config, keep):
    weights = edit_config("llama") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    found = failure(engine_config(weights.parent))
    assert found.code == "ModelFilesCorrupt"
    assert f"model.safetensors ({weights.stat().st_size} bytes)" in found.message


def test_a_missing_tensor_is_named_with_its_shape(engine_config, edit_config):
    weights = edit_config("llama") / "model.safetensors"
    tensors = load_file(weights)
    del tensors["model.layers.1.self_attn.k_proj.weight"]
    save_file(tensors, weights)
    found = failure(engine_config(weights.parent))
    assert found.code == "ModelFilesMissing"
    assert "model.layers.1.self_attn.k_proj.weight with shape [32, 64]" in found.message


def test_other_shapes_than_the_config(engine_config, edit_config):
    found = failure(engine_config(edit_config("llama", intermediate_size=97)))
    assert found.code == "ModelFilesCorrupt"
    assert "has shape [96, 64], config.json asks for [97, 64]" in found.message


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_weights_that_another_tool_quantized(engine_config, edit_config, dtype):
    weights = edit_config("llama") / "model.safetensors"
    tensors = load_file(weights)
    name = "model.layers.1.mlp.up_proj.weight"
    save_file({**tensors, name: tensors[name].to(dtype)}, weights)
    found = failure(engine_config(weights.parent))
    assert found.code == "ModelFilesCorrupt"
    assert f"tensor {name} in {weights} has numbers of type" in found.message and "F32, F16, BF16" in found.message


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["model.layers.1.mlp.up_proj.weight", "model.norm.weight", "model.embed_tokens.weight"])
@pytest.mark.parametrize("quantization", ["None", "INT8"])
def test_numbers_that_are_none(engine_config, edit_config, name, value, quantization):
    weights = edit_config("llama") / "model.safetensors"
    tensors = load_file(weights)
    tensors[name].view(-1)[17] = value
    save_file(tensors, weights)
    found = failure(engine_config(weights.parent, quantization=quantization))
    assert found.code == "ModelFilesCorrupt"
    assert f"tensor {name} in {weights} has values that are no finite numbers" in found.message


@pytest.mark.parametrize("quantization", ["None", "INT8"])
def test_sound_numbers_whose_sum_leaves_their_type(engine_config, edit_config, quantization):
    weights = edit_config("llama") / "model.safetensors"
    tensors = {name: tensor.half() for name, tensor in load_file(weights).items()}
    tensors["model.layers.1.mlp.up_proj.weight"] += 12
    assert tensors["model.layers.1.mlp.up_proj.weight"].sum().isinf()
    save_file(tensors, weights)
    load_model(engine_config(weights.parent, quantization=quantization))


def test_a_tensor_in_two_files(engine_config, edit_config):
    weights = edit_config("llama") / "model.safetensors"
    tensors = load_file(weights)
    name = "model.norm.weight"
    save_file({name: tensors[name] + 1}, weights.parent / "model-2.safetensors")
    assert load_model(engine_config(weights.parent)).parameters, "what lies beside the one file is not of it"
    weights.rename(weights.parent / "model-1.safetensors")
    found = failure(engine_config(weights.parent))
    assert (found.code, f"tensor {name} is in {weights.parent / 'model-1.safetensors'}" in found.message) == (
        "ModelFilesCorrupt",
        True,
    )


@pytest.mark.parametrize("differs", [False, True])
def test_a_head_of_its_own_counts_whatever_the_config_says(engine_config, edit_config, differs):
    """As in transformers, which ties what is equal only."""
    weights = edit_config("llama") / "model.safetensors"
    tensors = load_file(weights)
    head = tensors["model.embed_tokens.weight"] + differs
    save_file({**tensors, "lm_head.weight": head}, weights)
    model = load_model(engine_config(weights.parent))
    assert model.network_config.tied_embeddings != differs
    assert torch.equal(dict(model.network.tensors()).get("lm_head.weight", head), head)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"vocab_size": 2**31 - 1, "intermediate_size": 2**31 - 1}, "config.json asks for [2147483647, 64]"),
        ({"hidden_size": 2**31 - 2, "intermediate_size": 2**31 - 1}, "asks for tensors that can not be"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers must be a positive integer, at most 10000"),
        ({"head_dim": 15}, "head_dim must be even"),
    ],
)
def test_nothing_is_made_before_the_files_are_known_to_fit(engine_config, edit_config, changes, words):
    """A wrong size may ask for more than there is."""
    found = failure(engine_config(edit_config("llama", **changes)))
    assert (found.code, words in found.message) == ("ModelFilesCorrupt", True), found.message


def test_how_far_the_load_is_stands_in_a_file_until_it_ends(engine_config, monkeypatch):
    config = engine_config("llama")
    file, seen = Path(progress_path(config.channel_token_file)), []
    monkeypatch.setattr(progress_file, "LEAST_SECONDS", 0)
    write = progress_file._write

    def watch(path, progress):
        write(path, progress)
        seen.append(LoadProgress.model_validate_json(file.read_text()))

    monkeypatch.setattr(progress_file, "_write", watch)
    load_model(config)
    size = sum(path.stat().st_size for path in Path(config.model_path).glob("*.safetensors"))
    read = [progress.read_bytes for progress in seen]
    assert read[0] == 0 and read == sorted(read) and len(read) > 10
    assert 0.9 * size < read[-1] <= size == seen[-1].total_bytes
    assert seen[-1].percent >= 90
    assert not file.exists()


def test_a_load_does_not_need_the_file(engine_config):
    assert load_model(engine_config("llama", channel_token_file="/nowhere/token")).parameters


def test_tensors_without_a_place_are_not_ignored(engine_config, edit_config):
    found = failure(engine_config(edit_config("qwen2", architectures=["LlamaForCausalLM"])))
    assert found.code == "ModelFilesCorrupt"
    assert "9 tensors have no place" in found.message and "q_proj.bias" in found.message


def test_broken_json(engine_config, edit_config):
    directory = edit_config("llama")
    (directory / "config.json").write_text('{"architectures": ')
    assert failure(engine_config(directory)).code == "ModelFilesCorrupt"
    (directory / "config.json").write_text("[" * 100_000)
    assert "is not JSON" in failure(engine_config(directory)).message


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "GPT2LMHeadModel; supported: Gemma3ForCausalLM, LlamaForCausalLM, Mist"),
        ({"architectures": None}, "names nothing"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"quantization_config": {"quant_method": "gptq"}}, "gptq"),
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4}}, "'dynamic' is not supported; supported: default"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor 0.5"),
    ],
)
def test_what_is_not_computed_here(engine_config, edit_config, changes, words):
    found = failure(engine_config(edit_config("llama", **changes)))
    assert found.code == "UnsupportedArchitecture"
    assert words in found.message


WRONG = ["x", -1, 1.5, [], {}, True, [1], [None], {"a": 1}, None, math.inf]
SOUND = {
    "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 96, "vocab_size": 259,
    "max_position_embeddings": 128, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "rope_theta": 1e4, "rope_scaling": None,
    "rope_parameters": None, "sliding_window": 8, "layer_types": ["full_attention"] * 2, "max_window_layers": 1,
    "use_sliding_window": True, "quantization_config": None, "query_pre_attn_scalar": 6, "sliding_window_pattern": 2,
    "rope_local_base_freq": 1e4, "layer_norm_eps": 1e-6, "hidden_act": None, "head_dim": None, "partial_rotary_factor": 1,
}  # fmt: skip


@pytest.mark.parametrize("parse", [parse_bert_config, *(family.parse for family in DECODERS.values())])
def test_whatever_stands_in_a_config_it_is_read_or_refused(parse):
    for key, value in itertools.product(SOUND, [*WRONG, 10**9, 10**30]):
        try:
            parse({**SOUND, key: value})
        except errors.LoadError as error:
            assert str(error).startswith("[")


@pytest.mark.parametrize("family", DECODERS.values(), ids=DECODERS)
def test_what_is_read_of_a_config_can_be_computed(family):
    """A frequency that is no number would make noise of every answer."""
    for key, value in itertools.product(SOUND, [*WRONG, 3]):
        try:
            sizes = family.parse({**SOUND, key: value})
        except errors.LoadError:
            continue
        assert list(family.network(sizes, 8, torch.float32, torch.device("meta")).tensors())
        table = RotaryTable(sizes.rope, sizes.head_dim, 8, torch.float32, torch.device("cpu"))
        assert table.cos.isfinite().all() and table.cos.shape == (8, sizes.head_dim)
        assert all(0 < number < math.inf for number in (sizes.norm_epsilon, sizes.attention_scale or 1, sizes.rope.theta))
        assert all(window is None or window > 0 for window in sizes.windows)


@pytest.mark.parametrize("key", ["eos_token_id", "architectures"])
def test_whatever_a_directory_says_of_itself_it_is_read_or_refused(tmp_path, key):
    for name in ("tokenizer.json", "a.safetensors"):
        (tmp_path / name).touch()
    for value in WRONG:
        (tmp_path / "config.json").write_text(json.dumps({key: value}))
        try:
            directory = open_model_directory(tmp_path)
        except errors.ModelFilesCorrupt:
            continue
        assert isinstance(directory.architecture, str) and all(isinstance(token, int) for token in directory.stop_tokens)


@pytest.mark.parametrize("name", [".", "config.json", "tokenizer.json", "model.safetensors"])
def test_what_the_user_of_the_pod_may_not_read_is_named(name):
    with open_directory() as path:
        (path / "config.json").write_text("{}")
        for each in ("tokenizer.json", "model.safetensors"):
            (path / each).touch()
        (path / name).chmod(0)
        with as_another_user(), pytest.raises(errors.ModelFilesMissing, match="can't be read: Permission denied") as caught:
            open_model_directory(path)
        (path / name).chmod(0o700)
        assert (name if name != "." else "config.json") in str(caught.value) and "chmod -R a+rX" in str(caught.value)


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors"])
def test_a_clone_without_git_lfs(tmp_path, name):
    (tmp_path / "config.json").write_text("{}")
    for each in ("tokenizer.json", "model.safetensors"):
        (tmp_path / each).touch()
    open_model_directory(tmp_path)
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 269060552\n")
    with pytest.raises(errors.ModelFilesMissing, match=f"{name} is a pointer of Git LFS.*git lfs pull"):
        open_model_directory(tmp_path)


@pytest.mark.parametrize("places", ["x", [1], {"a": 1}, {"a": None}])
def test_an_index_that_names_no_files(tmp_path, places):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").touch()
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    with pytest.raises(errors.ModelFilesCorrupt, match="weight_map must name"):
        open_model_directory(tmp_path)


def test_context_window_beyond_the_model(engine_config):
    found = failure(engine_config("llama", context_window=129))
    assert found.code == "ContextWindowTooLarge"
    assert "129" in found.message and "limit 128" in found.message


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping 30.0"),
        ({"hidden_activation": "gelu"}, "'gelu' is not supported"),
        ({"layer_types": ["chunked_attention"] * 3}, "layer_types"),
    ],
)
def test_what_is_not_computed_of_gemma3(engine_config, edit_config, changes, words):
    found = failure(engine_config(edit_config("gemma3", **changes)))
    assert (found.code, words in found.message) == ("UnsupportedArchitecture", True)


def test_yarn_reaches_beyond_what_the_config_calls_the_limit(engine_config, edit_config):
    scaling = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 128}
    directory = edit_config("llama", rope_parameters=scaling)
    assert load_model(engine_config(directory, context_window=512)).cache.context == 512
    assert "limit 512" in failure(engine_config(directory, context_window=513)).message
    broken = edit_config("llama", rope_parameters={**scaling, "factor": "four"})
    assert "factor must be a positive number, it is 'four'" in failure(engine_config(broken)).message


def test_a_sliding_window_is_no_limit(engine_config, edit_config):
    assert load_model(engine_config(edit_config("mistral", sliding_window=16))).network_config.windows == (16, 16, 16)


def test_memory_names_what_is_predicted_and_what_is_allowed(engine_config):
    found = failure(engine_config("llama", host_memory_bytes=10_000_000))
    assert found.code == "OutOfMemory"
    assert re.search(r"predicted \d+ bytes .* the cap is 10000000 bytes", found.message)


def test_fewer_blocks_where_all_do_not_fit(engine_config):
    roomy = load_model(engine_config("llama", max_batch_size=1024, host_memory_bytes=2**40))
    assert roomy.cache.tokens == 1024 * 128
    tight = load_model(engine_config("llama", max_batch_size=1024, host_memory_bytes=roomy.predicted_bytes - 10_000_000))
    assert 900 * 128 < tight.cache.tokens < 1024 * 128 and tight.cache.slots == 1024
    assert tight.predicted_bytes <= roomy.predicted_bytes


def test_no_card(engine_config):
    if torch.cuda.is_available():
        pytest.skip("this machine has a card")
    assert failure(engine_config("llama", device="cuda")).code == "DeviceUnavailable"


def test_a_card_that_is_visible_and_does_not_work(engine_config, monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("this machine has a card")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    found = failure(engine_config("llama", device="cuda", gpu_count=1))
    assert found.code == "DeviceUnavailable"
    assert "can't be used: " in found.message
    assert "asks for 2 cards and 1 are visible" in failure(engine_config("llama", device="cuda", gpu_count=2)).message


def test_a_card_that_is_too_old_for_our_kernels(engine_config, monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("this machine has a card")
    facts = {
        "is_available": True, "device_count": 1, "current_device": 0, "get_device_capability": (7, 5),
        "get_device_name": "Tesla T4",
    }  # fmt: skip
    for name, fact in facts.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, fact=fact: fact)
    ones = torch.ones
    monkeypatch.setattr(torch, "ones", lambda *sizes, device=None, **more: ones(*sizes, **more))
    found = failure(engine_config("llama", device="cuda", gpu_count=1))
    assert found.code == "DeviceUnavailable"
    assert "Tesla T4 has compute capability 7.5, and text generation needs 8.0 or more" in found.message


def test_both_dialects_of_a_config_say_the_same():
    common = {
        "num_hidden_layers": 4, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 24, "vocab_size": 259, "max_position_embeddings": 128, "sliding_window": 24,
    }  # fmt: skip
    old = {"rope_theta": 5e5, "rope_local_base_freq": 2e4, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}}
    new = {
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "rope_theta": 5e5, "factor": 8.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 2e4},
        },
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    }
    sizes = parse_gemma3_config({**common, **old, "sliding_window_pattern": 2})
    assert sizes == parse_gemma3_config({**common, **new})
    assert (sizes.windows, sizes.rope, sizes.local_rope) == ((24, None, 24, None), Rope(5e5, linear_factor=8.0), Rope(2e4))
    scaling = {"factor": 4.0, "original_max_position_embeddings": 32}
    old = {**common, "rope_theta": 1e6, "rope_scaling": {"type": "yarn", **scaling}}
    new = {**common, "rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6, **scaling}}
    assert parse_network_config(old) == parse_network_config(new)

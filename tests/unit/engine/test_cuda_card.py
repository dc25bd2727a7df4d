"""The engine and its CUDA card: the memory cap kept, everything freed, and every fault of the card in words."""

import gc
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from engine_runs import card_used, make_prompts, passes_alone, run_greedy
from localmodel.api.channel import Sampling
from localmodel.engine import device as card
from localmodel.engine.errors import DeviceUnavailable, LoadError, OutOfMemory
from localmodel.engine.loader import load_model
from localmodel.engine.service import EngineService, build_engine
from random_models import draw, write_model

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card")]
LONG = 4096


def test_cancel_frees_the_slot_at_once_and_leaks_nothing(cuda_config):
    engine = build_engine(load_model(cuda_config(max_batch_size=2)))
    first, second, third = make_prompts(3, 20, 60)
    alone = run_greedy(engine, [third])[0]
    for round_ in range(21):
        if round_ == 1:  # graphs are captured when they are first needed
            before = torch.cuda.memory_allocated()
        for key, prompt in (("a", first), ("b", second)):
            engine.add_request(key, prompt, Sampling(temperature=0, max_tokens=60, ignore_eos=True))
        engine.step()
        engine.step()
        assert engine.load()[:2] == (2, 0)
        assert engine.cancel("a").finish == "cancelled"
        assert engine.load()[:2] == (1, 0)
        engine.cancel("b")
        assert engine.load() == (0, 0, 0)
    assert run_greedy(engine, [third])[0] == alone
    assert torch.cuda.memory_allocated() == before


def test_the_cap_is_kept_and_predicted_within_three_hundredths(cuda_config, tmp_path, request):
    """With a cap as real models have, of which what a card's libraries may take at most is a small part."""
    if passes_alone(request):
        return
    cached = {"num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 16, "vocab_size": 300}
    drawn = draw(0)
    write_model(replace(drawn, config={**drawn.config, **cached, "sliding_window": None}), tmp_path)
    config = cuda_config(tmp_path, context_window=LONG, max_batch_size=1024)
    total = torch.cuda.get_device_properties(0).total_memory
    share = 16 * 2**30 / total
    model = load_model(config.model_copy(update={"gpu_memory_share": share}))
    cap = int(share * total)
    assert model.cache.slots == 1024 and cap - model.predicted_bytes <= model.cache.size_bytes / model.cache.blocks
    torch.cuda.reset_peak_memory_stats()
    prompts = make_prompts(1024, 1, 40) + make_prompts(2, LONG - 10, LONG - 10)
    run_greedy(build_engine(model), prompts, count=4)
    context = card_used() - torch.cuda.memory_reserved()
    measured = context + torch.cuda.max_memory_reserved()
    print(f"cap {cap:,}, predicted {model.predicted_bytes:,}, measured {measured:,}, of which context {context:,}")
    assert context <= card.CONTEXT_BYTES
    assert 0.97 * model.predicted_bytes < measured <= cap
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(cap, dtype=torch.uint8, device="cuda")


def test_wide_heads_in_float32_take_no_more_beside(cuda_config, tmp_path, request):
    if passes_alone(request):
        return
    drawn = draw(0)
    wide = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 300}
    write_model(replace(drawn, config={**drawn.config, **wide, "sliding_window": None}), tmp_path)
    engine = build_engine(load_model(cuda_config(tmp_path, context_window=LONG)))
    run_greedy(engine, make_prompts(3, 1, 100) + make_prompts(1, 2000, 2000), count=4)
    assert card_used() - torch.cuda.memory_reserved() <= card.CONTEXT_BYTES


def test_what_a_step_was_measured_with_is_given_back_at_once(cuda_config, tmp_path):
    """Its cache of one sequence is 128 MiB here: more than what matrix libraries keep for a thread."""
    drawn = draw(0)
    large = {"num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 300}
    write_model(replace(drawn, config={**drawn.config, **large, "sliding_window": None}), tmp_path)
    gc.collect()
    before = torch.cuda.memory_allocated()
    gc.disable()
    try:
        model = load_model(cuda_config(tmp_path, context_window=LONG))
        kept = torch.cuda.memory_allocated() - before - model.weights_bytes - model.cache.size_bytes
        one = model.cache.size_bytes // model.cache.blocks * -(-LONG // model.cache.block_size)
        assert one >= 2**26
        assert kept < 0.75 * one, "the cache of one sequence is still there"
    finally:
        gc.enable()


def test_a_cap_too_small_names_both_numbers(cuda_config):
    with pytest.raises(OutOfMemory, match=r"\[OutOfMemory\] predicted \d+ bytes .* the cap is 300000000 bytes"):
        load_model(cuda_config(gpu_memory_bytes=300_000_000))


def test_a_card_that_others_have_filled(cuda_config):
    free, _ = torch.cuda.mem_get_info()
    neighbour = torch.empty(free - 40 * 2**20, dtype=torch.uint8, device="cuda")
    with pytest.raises(OutOfMemory, match=r"the card has \d+ of \d+ bytes free. Another process"):
        load_model(cuda_config())
    del neighbour
    torch.cuda.empty_cache()
    assert load_model(cuda_config()).cache.slots == 4


def test_more_cards_than_there_are(cuda_config):
    with pytest.raises(DeviceUnavailable, match=r"\[DeviceUnavailable\] the model asks for 16 cards and \d+ are visible"):
        load_model(cuda_config(gpu_count=16))


@pytest.mark.parametrize("visible", ["", "-1", "99"])
def test_a_card_that_is_not_visible(cuda_config, visible):
    program = """
import sys
from localmodel.api.engine import EngineConfig
from localmodel.engine.loader import load_model
load_model(EngineConfig.model_validate_json(sys.argv[1]))
"""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": visible, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program, cuda_config().model_dump_json()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.search(r"\[DeviceUnavailable\] .*card", done.stderr), done.stderr


def test_the_service_answers_and_reports_the_card(cuda_config, world):
    service = EngineService(cuda_config(dtype="auto"), log=print, exit_process=lambda: pytest.fail("the process would end"))
    service.start()
    try:
        stream = world.stream()
        sampling = {"temperature": 0.7, "top_p": 0.9, "seed": 1, "max_tokens": 20, "ignore_eos": True}
        service.handle(json.dumps({"op": "generate", "text": "Hello", "stream": False, "sampling": sampling}), stream)
        until = time.monotonic() + 60
        while not stream.closed:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert stream.answer["completion_tokens"] == 20
        status = service.status()
        assert (status.device, status.dtype) == ("cuda:0", "bfloat16")
        assert status.memory_bytes >= status.weights_bytes + status.kv_bytes
    finally:
        service.stop()


def test_every_load_error_leaves_the_card_as_it_was(cuda_config, edit_config):
    weights = edit_config("llama") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    allocated = []
    for _ in range(3):  # the first leaves what matrix libraries keep for a thread, which the next thread takes
        with pytest.raises(LoadError):
            load_model(cuda_config(weights.parent))
        gc.collect()
        allocated.append(torch.cuda.memory_allocated())
    assert allocated[0] == allocated[1] == allocated[2] < 2**27

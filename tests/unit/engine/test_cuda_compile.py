"""`compile` on a card: no graph at all, graphs as they are needed, or every graph before the first request."""

import pytest
import torch

from engine_runs import card_used, make_prompts, passes_alone, run_greedy
from localmodel.engine.loader import load_model
from localmodel.engine.service import build_engine

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card")]


@pytest.fixture
def captured(monkeypatch):
    """The graphs that are made from now on."""
    made = []
    capture = torch.cuda.graph

    def count(graph, **more):
        made.append(graph)
        return capture(graph, **more)

    monkeypatch.setattr(torch.cuda, "graph", count)
    return made


def prompts():
    return make_prompts(7, 1, 100)


def test_none_captures_nothing_and_answers_the_same(cuda_config, engine_config, captured):
    expected = run_greedy(build_engine(load_model(engine_config("llama"))), prompts())
    engine = build_engine(load_model(cuda_config("llama", max_batch_size=3, compile="None")))
    assert run_greedy(engine, prompts()) == expected
    assert not captured


def test_auto_captures_while_it_serves(cuda_config, captured):
    engine = build_engine(load_model(cuda_config("llama", max_batch_size=3)))
    before = len(captured)
    run_greedy(engine, prompts())
    assert len(captured) > before > 0


def test_max_captures_nothing_more_once_it_is_ready(cuda_config, engine_config, captured):
    expected = run_greedy(build_engine(load_model(engine_config("llama"))), prompts())
    engine = build_engine(load_model(cuda_config("llama", max_batch_size=3, compile="Max")))
    before = len(captured)
    assert before > 0
    assert run_greedy(engine, prompts()) == expected
    for prompt in prompts():
        run_greedy(engine, [prompt])
    assert len(captured) == before


def test_logits_of_all_sizes_share_their_memory(cuda_config):
    """Kept apart they would take hundreds of megabytes, which nobody has set aside."""
    engine = build_engine(load_model(cuda_config("llama", max_batch_size=256)))
    graphs = engine._launch.__self__._graphs
    before = torch.cuda.memory_allocated()
    with torch.inference_mode():
        logits = sum(graphs.decode(rows).logits.nbytes for rows in range(16, 256, 16))
    assert torch.cuda.memory_allocated() - before < logits / 4


def test_max_stays_below_its_cap(cuda_config, request):
    if passes_alone(request):
        return
    cap = 2 * 2**30
    model = load_model(cuda_config("llama", max_batch_size=256, compile="Max", gpu_memory_bytes=cap))
    engine = build_engine(model)
    run_greedy(engine, make_prompts(256, 1, 60), count=4)
    beside = card_used() - torch.cuda.memory_reserved()
    measured = beside + torch.cuda.max_memory_reserved()
    print(f"cap {cap:,}, predicted {model.predicted_bytes:,}, measured {measured:,}, beside torch {beside:,}")
    assert measured <= cap

"""A start on a card: no kernel is compiled after the weights were read."""

import pytest
import torch

from engine_runs import make_prompts, run_greedy
from localmodel.engine.loader import load_model
from localmodel.engine.service import build_engine

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card")]


@pytest.fixture
def compiled(monkeypatch):
    """(name, whether it was only to be compiled) of each kernel from now on; none is known before."""
    import triton
    from localmodel.engine import (
        chunk_attention_kernel,
        fused_kernels,
        paged_attention_kernel,
        weight_expand,
        weight_hopper_kernel,
        weight_planes_kernel,
        weight_row_kernel,
        weight_row_planes_kernel,
        weight_rows_kernel,
    )

    modules = (
        chunk_attention_kernel, fused_kernels, paged_attention_kernel, weight_expand, weight_hopper_kernel,
        weight_planes_kernel, weight_row_kernel, weight_row_planes_kernel, weight_rows_kernel,
    )  # fmt: skip
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, triton.JITFunction):
                value.device_caches.clear()
    found = []

    def note(**more):
        found.append((more["fn"].name, more["is_manual_warmup"]))

    monkeypatch.setattr(triton.knobs.runtime, "jit_post_compile_hook", note)
    return found


@pytest.mark.parametrize("dtype", ["auto", "float32"])
@pytest.mark.parametrize(("kind", "quantization"), [("llama", "None"), ("gemma3", "None"), ("qwen2", "INT8"), ("llama", "INT4")])
def test_every_kernel_of_a_start_and_a_first_request_was_compiled_while_weights_were_read(
    cuda_config, nearest_values, compiled, kind, quantization, dtype
):
    engine = build_engine(load_model(cuda_config(kind, quantization=quantization, dtype=dtype, max_batch_size=5)))
    for prompt in [*make_prompts(3, 1, 100), *make_prompts(1, 120, 120)]:
        run_greedy(engine, [prompt], 4)
    assert len(compiled) > 5
    assert [name for name, ahead in compiled if not ahead] == []


def test_a_rehearsal_that_fails_does_not_stop_a_load(cuda_config, monkeypatch, capfd):
    from localmodel.engine import rehearsal

    monkeypatch.setattr(rehearsal, "rehearse", lambda *arguments, **more: 1 / 0)
    engine = build_engine(load_model(cuda_config()))
    assert run_greedy(engine, make_prompts(1, 5, 5), 4)[0]
    assert "ZeroDivisionError" in capfd.readouterr().out

"""Products in C: near the exact ones, whatever the shape; a row's bits do not depend on its company; elsewhere oneDNN's."""

import pytest
import torch

from engine_runs import run_logged
from localmodel.api.channel import Sampling
from localmodel.engine import cpu_kernels, cpu_products
from localmodel.engine.loader import load_model
from localmodel.engine.packed_weight import PackedWeight, can_pack, packing_bytes

BFLOAT16 = torch.bfloat16
COUNTS = [*range(1, 19), 24, 25, 33, 40, 75]
"""Of rows: all that are multiplied at once, and parts of each height."""
SHAPES = [(16, 8), (5, 16), (48, 24), (95, 576), (200, 1000), (1, 4096)]
needs_products = pytest.mark.skipif(not cpu_products.serves(BFLOAT16, 8), reason="the processor has no instructions for them")


@pytest.mark.skipif(not cpu_kernels.built(), reason="the environment was made without a C compiler")
def test_it_serves_where_the_processor_has_pairs_and_no_tiles(monkeypatch):
    abilities = torch.cpu.get_capabilities()
    assert cpu_products.serves(BFLOAT16, 64) == (abilities.get("avx512_bf16", False) and not abilities.get("amx_bf16", False))
    assert not cpu_products.serves(torch.float32, 64) and not cpu_products.serves(BFLOAT16, 60)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": True})
    assert not cpu_products.serves(BFLOAT16, 64)


@needs_products
@pytest.mark.parametrize(("outputs", "inputs"), SHAPES)
def test_near_the_exact_product(outputs, inputs):
    """One rounding, and what sums of so many numbers in float32 may differ by."""
    torch.manual_seed(0)
    weight, bias = torch.randn(outputs, inputs).to(BFLOAT16), torch.randn(outputs).to(BFLOAT16)
    blocks = cpu_products.to_blocks(weight)
    for count in COUNTS:
        x = torch.randn(count, inputs).to(BFLOAT16)
        for added in (None, bias):
            exact = x.double() @ weight.double().T + (0 if added is None else added.double())
            sizes = x.double().abs() @ weight.double().abs().T + 4
            made = cpu_products.multiply(x, blocks, added, outputs)
            assert made.shape == exact.shape and made.dtype == BFLOAT16
            assert ((made.double() - exact).abs() <= exact.abs() * 2**-8 + sizes * 2**-20).all(), count


@needs_products
def test_a_row_has_the_same_bits_alone_and_in_company():
    torch.manual_seed(0)
    weight, x = torch.randn(95, 200).to(BFLOAT16), torch.randn(80, 200).to(BFLOAT16)
    blocks = cpu_products.to_blocks(weight)
    alone = torch.cat([cpu_products.multiply(row, blocks, None, 95) for row in x.split(1)])
    for count in range(2, 81):
        assert torch.equal(cpu_products.multiply(x[:count], blocks, None, 95), alone[:count])
    x[3] = torch.inf
    assert torch.equal(cpu_products.multiply(x, blocks, None, 95)[4:], alone[4:]), "what one row says is no other's"


@needs_products
@pytest.mark.parametrize("count", [1, 16, 40])
def test_threads_share_a_product(count):
    """Of a size that is worth it."""
    weight, x = torch.randn(650, 520).to(BFLOAT16), torch.randn(count, 520).to(BFLOAT16)
    blocks, before, made = cpu_products.to_blocks(weight), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            made.append(cpu_products.multiply(x, blocks, None, 650))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(made[1], made[0]) and torch.equal(made[2], made[0])


@needs_products
@pytest.mark.parametrize("count", [1, 7, 16, 30])
def test_nothing_else_is_written(count):
    weight, x = torch.randn(37, 64).to(BFLOAT16), torch.randn(count, 64).to(BFLOAT16)
    room, turned = torch.full((count * 37 + 64,), 7.0, dtype=BFLOAT16), torch.full(((count + 7) * 64 + 64,), 7.0, dtype=BFLOAT16)
    product = room[32:-32].view(count, 37)
    cpu_kernels.multiply(x, cpu_products.to_blocks(weight), None, product, turned)
    assert (room[:32] == 7).all() and (room[-32:] == 7).all() and (turned[-64:] == 7).all()
    assert torch.equal(product, cpu_products.multiply(x, cpu_products.to_blocks(weight), None, 37))


@needs_products
def test_no_rows_and_rows_with_gaps():
    weight, x = torch.randn(20, 16).to(BFLOAT16), torch.randn(6, 32).to(BFLOAT16)[:, :16]
    blocks = cpu_products.to_blocks(weight)
    assert cpu_products.multiply(x[:0], blocks, None, 20).shape == (0, 20)
    assert torch.equal(cpu_products.multiply(x, blocks, None, 20), cpu_products.multiply(x.contiguous(), blocks, None, 20))


@pytest.mark.parametrize(("outputs", "inputs"), SHAPES)
def test_blocks_give_back_their_rows(outputs, inputs):
    weight = torch.randn(outputs, inputs).to(BFLOAT16)
    blocks = cpu_products.to_blocks(weight)
    ids = torch.tensor([outputs - 1, 0, outputs // 2])
    assert torch.equal(cpu_products.to_rows(blocks, outputs), weight)
    assert torch.equal(cpu_products.take_rows(blocks, ids), weight[ids])


@needs_products
def test_a_matrix_of_words_is_kept_once(engine_config):
    """And nothing is planned for beside the weights."""
    model = load_model(engine_config("llama", dtype="bfloat16"))
    words, sizes = model.network.words, model.network_config
    assert sizes.tied_embeddings and words.embedding is words.head and isinstance(words.head, PackedWeight)
    ids = torch.tensor([3, 0, 77])
    assert torch.equal(words.embed(ids), words.head.dense()[ids])
    assert packing_bytes(sizes, BFLOAT16, 100, 8) == 0


@needs_products
def test_without_a_seed_too_an_answer_has_the_same_bits_in_any_company(engine_config):
    """Log-probabilities show a rounding that tokens would hide. Alone the prompt is one step, beside others it is two pieces."""
    model = load_model(engine_config("llama", dtype="bfloat16", context_window=128, max_batch_size=8))
    asked = ([number % 250 for number in range(3, 90)], Sampling(temperature=0, max_tokens=8, logprobs=0))
    others = [([number % 250 for number in range(at, at + 100)], asked[1]) for at in range(5, 12)]
    alone, counts = run_logged(model, [asked])
    assert counts[0] == 87
    together, counts = run_logged(model, [*others, asked])
    assert together[-1] == alone[0] and max(counts) > 300


@pytest.mark.skipif(not can_pack(BFLOAT16), reason="weights are not packed here")
def test_without_them_onednn_multiplies(monkeypatch, engine_config):
    monkeypatch.setattr(cpu_kernels, "multiplies", lambda: False)
    model = load_model(engine_config("llama", dtype="bfloat16"))
    assert isinstance(model.network.words.embedding, torch.Tensor) and isinstance(model.network.words.head, PackedWeight)
    assert packing_bytes(model.network_config, BFLOAT16, 100, 8) > 0

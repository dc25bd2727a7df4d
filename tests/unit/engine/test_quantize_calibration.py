"""Rounding that makes up for its errors on samples: it does, it repeats itself, and it never stops a load."""

import pytest
import torch

from localmodel.engine import calibration
from localmodel.engine.attention import Batch, Segment, SegmentedAttention
from localmodel.engine.calibration import sample_pieces
from localmodel.engine.loader import load_model
from localmodel.engine.rounding import compensate, round_nearest

TEXT = b"What is rounded must be what is multiplied, and nobody knows why it never was; def f(x): return x + 1"


@pytest.mark.parametrize("group", [32, 128])
def test_errors_cancel_on_inputs_that_go_together(group):
    torch.manual_seed(0)
    inputs = torch.randn(600, 40) @ torch.randn(40, 256) + 0.3 * torch.randn(600, 256)
    weight = torch.randn(48, 256)
    moments = inputs.T @ inputs
    before = moments.clone()
    nearest, ours = round_nearest(weight, group, torch.bfloat16), compensate(weight, moments, group, torch.bfloat16)
    errors = [((inputs @ (each.dense() - weight).T).square().mean()) for each in (nearest, ours)]
    assert errors[1] < 0.3 * errors[0]
    assert ours.numbers.shape == nearest.numbers.shape and ours.numbers.dtype == torch.uint8 and ours.numbers.max() < 16
    assert ours.scales.dtype == torch.bfloat16 and ours.scales.shape == (48, 256 // group)
    assert torch.equal(moments, before)
    again = compensate(weight, moments, group, torch.bfloat16)
    assert all(torch.equal(one, other) for one, other in zip(ours, again, strict=True))


def test_inputs_that_never_come_do_no_harm():
    torch.manual_seed(0)
    weight = torch.randn(8, 64)
    for moments in (torch.zeros(64, 64), torch.diag(torch.arange(64.0).clamp(max=1))):
        rounded = compensate(weight, moments, 32, torch.float32).dense()
        assert (rounded - weight).abs().max() < 0.5


def logits(config):
    model = load_model(config)
    tokens = torch.tensor(list(TEXT))
    places = torch.arange(len(tokens))
    attend = SegmentedAttention([Segment(row=0, count=len(tokens), start=0, past=slice(0, len(tokens)))])
    with torch.inference_mode():
        return model.network(Batch(tokens, places, places, attend), model.cache, None), model


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gemma3", "biased"])
def test_every_matrix_of_a_family_errs_less_on_what_comes_to_it(engine_config, monkeypatch, kind):
    errors = []

    def watched(weight, moments, group, dtype):
        rounded = compensate(weight, moments, group, dtype)
        pair = [each.dense() - weight for each in (round_nearest(weight, group, dtype), rounded)]
        errors.append([((each @ moments) * each).sum().item() for each in pair])
        return rounded

    monkeypatch.setattr(calibration, "compensate", watched)
    ours, model = logits(engine_config(kind, quantization="INT4"))
    assert model.rounding == "INT4: 13 of 13 matrices rounded so that errors cancel on samples"
    assert len(errors) == 13 and all(after < 0.9 * before for before, after in errors), errors
    again, _ = logits(engine_config(kind, quantization="INT4"))
    assert torch.equal(ours, again), "the same every time"


@pytest.mark.parametrize("way", ["no file", "few tokens", "no room", "much work", "other ids"])
def test_what_cannot_be_done_leaves_the_nearest_values(engine_config, monkeypatch, tmp_path, nearest_values, way):
    expected, model = logits(engine_config("llama", quantization="INT4"))
    assert "0 of 13 matrices" in model.rounding and "too few" in model.rounding
    monkeypatch.undo()
    if way == "no file":
        monkeypatch.setattr(calibration, "SAMPLES", tmp_path / "absent.txt")
    elif way == "few tokens":
        monkeypatch.setattr(calibration, "LEAST_PIECES", 10**6)
    elif way == "no room":
        monkeypatch.setattr(calibration, "activation_bytes", lambda *_: 2**50)
    elif way == "much work":
        monkeypatch.setattr(calibration, "MOST_CPU_WORK", 1)
    else:
        monkeypatch.setattr(calibration, "sample_pieces", lambda file, _, length: sample_pieces(file, 100, length))
    changes = {"host_memory_bytes": 2**40} if way == "no room" else {}
    ours, model = logits(engine_config("llama", quantization="INT4", **changes))
    assert "0 of 13 matrices" in model.rounding and "nearest" in model.rounding
    assert torch.equal(ours, expected)


def test_samples_are_not_what_quality_is_measured_on(repository=calibration.SAMPLES.parents[3]):
    text = calibration.SAMPLES.read_text()
    pages = [page.read_text() for page in [*repository.glob("*.md"), *repository.glob("docs/**/*.md")]]
    lines = {line.strip() for line in text.splitlines() if len(line.strip()) > 30}
    assert lines and pages and not any(line in page for line in lines for page in pages)

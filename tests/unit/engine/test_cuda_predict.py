"""Networks of tensors on a CUDA card: exported on the CPU, moved, computed there, and capped."""

import numpy as np
import pytest
import torch

from localmodel.api.engine import EngineConfig
from localmodel.engine.errors import OutOfMemory
from localmodel.engine.predict_batch import compute
from localmodel.engine.predict_network import load_network
from predict_models import BAGS_CONFIG, MLP_CONFIG, write_bags, write_mlp

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card")]


def load(directory, changes, **more):
    settings = {"model_path": str(directory), "channel_token_file": str(directory / "token"), "device": "cuda", "gpu_count": 1}
    return load_network(EngineConfig.model_validate({**settings, "max_batch_size": 8, **changes, **more}))


@pytest.mark.parametrize("kind", ["script", "program"])
def test_a_card_computes_what_the_cpu_does(tmp_path, kind):
    script = kind == "script"
    network = write_mlp(tmp_path) if script else write_bags(tmp_path)
    loaded = load(tmp_path, MLP_CONFIG if script else BAGS_CONFIG)
    assert loaded.device.type == "cuda" and loaded.weights_bytes > 0
    scale = np.ones((1, 1), np.float32)
    requests = [[np.full((1, 4), n, np.float32)] if script else [np.array([[n, 1]]), scale] for n in range(1, 7)]
    answers = compute(loaded.run, loaded.described.signature, loaded.device, requests)
    for answer, request in zip(answers, requests, strict=True):
        with torch.inference_mode():
            expected = network(*map(torch.from_numpy, request))
        np.testing.assert_allclose(answer[0], expected if script else expected["classes"], atol=1e-4)


def test_a_cap_is_told_before_the_weights_are_read(tmp_path):
    write_mlp(tmp_path)
    with pytest.raises(OutOfMemory, match="the cap is 1048576 bytes"):
        load(tmp_path, MLP_CONFIG, gpu_memory_bytes=2**20)

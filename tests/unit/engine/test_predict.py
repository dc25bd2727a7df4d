"""Files of tensors in, arrays out: what a file may hold, which signature follows, one bad row alone, and a worker that dies."""

import gc
import json
import os
import pickle
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from localmodel.api.engine import EngineConfig, parse_load_failure
from localmodel.engine.errors import LoadError
from localmodel.engine.housekeeping import YOUNG_OBJECTS
from localmodel.engine.predict_archive import open_program, open_script
from localmodel.engine.predict_batch import DeviceFailed, compute
from localmodel.engine.predict_link import Beacon, Watch, WorkerState
from localmodel.engine.predict_network import describe_with_names, load_network
from localmodel.engine.predict_service import PredictEngine
from localmodel.engine.predict_signature import describe
from localmodel.engine.predict_worker import PredictWorker
from predict_models import BAGS_CONFIG, MLP_CONFIG, MLP_TENSORS, write_bags, write_mlp

CPU = torch.device("cpu")


def config(directory: Path, changes: dict[str, Any], **more: Any) -> EngineConfig:
    return EngineConfig.model_validate(
        {
            "model_path": str(directory),
            "channel_token_file": str(directory / "run" / "token"),
            "max_batch_size": 8,
            **changes,
            **more,
        }
    )


def failure(call: Callable[[], Any]) -> Any:
    with pytest.raises(LoadError) as caught:
        call()
    found = parse_load_failure(str(caught.value))
    assert found is not None
    return found


def tensors(inputs: list[tuple[str, str, list[int]]], outputs: list[tuple[str, str, list[int]]]) -> dict[str, Any]:
    def build(side: list[tuple[str, str, list[int]]]) -> list[dict[str, Any]]:
        return [dict(zip(("name", "datatype", "shape"), each, strict=True)) for each in side]

    return {"inputs": build(inputs), "outputs": build(outputs)}


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    directory = tmp_path_factory.mktemp("bags")
    return directory, write_bags(directory)


@pytest.fixture(scope="module")
def mlp(tmp_path_factory):
    directory = tmp_path_factory.mktemp("mlp")
    return directory, write_mlp(directory)


def test_a_program_names_its_own_tensors(bags):
    described = describe(config(bags[0], BAGS_CONFIG))
    assert described.signature.describe() == ("ids INT64 [-1, -1], scale FP32 [-1, 1] -> classes FP32 [-1, 3], best INT64 [-1]")
    assert described.signature.batched and described.max_batch_size == 8
    assert described.example == ((1, 5), (1, 1)) and described.devices == {"cpu"}
    assert not describe(config(bags[0], BAGS_CONFIG, max_batch_size=1)).signature.batched
    assert describe(config(bags[0], BAGS_CONFIG, max_batch_size=1000)).max_batch_size == 64


def test_a_spec_renames_a_program_and_fixes_sizes(bags):
    written = tensors([("a", "INT64", [-1, 7]), ("b", "FP32", [-1, 1])], [])
    described = describe(config(bags[0], BAGS_CONFIG, tensors=written))
    assert described.signature.describe().startswith("a INT64 [-1, 7], b FP32 [-1, 1] -> classes")
    assert described.example[0] == (1, 7)
    for wrong in ([("ids", "INT32", [-1, -1]), ("scale", "FP32", [-1, 1])], [("ids", "INT64", [-1, -1])],
                  [("ids", "INT64", [-1, -1]), ("scale", "FP32", [-1, 2])]):  # fmt: skip
        found = failure(lambda wrong=wrong: describe(config(bags[0], BAGS_CONFIG, tensors=tensors(wrong, []))))
        assert found.code == "SignatureMismatch" and "scale FP32 [-1, 1]" in found.message


def test_a_program_computes_what_its_network_does(bags):
    loaded = load_network(config(bags[0], BAGS_CONFIG))
    signature = loaded.described.signature
    requests = [
        [np.array([[1, 2, 3]]), np.array([[2.0]], np.float32)],
        [np.array([[4, 5, 6], [7, 8, 9]]), np.ones((2, 1), np.float32)],
    ]
    answers = compute(loaded.run, signature, CPU, requests)
    with torch.inference_mode():
        for answer, request in zip(answers, requests, strict=True):
            expected = bags[1](*map(torch.from_numpy, request))
            np.testing.assert_allclose(answer[0], expected["classes"], atol=1e-6)
            assert answer[1].tolist() == expected["best"].tolist()
    assert (loaded.parameters, loaded.dtype, loaded.weights_bytes) == (60 + 21, "float32", 4 * 81)


def test_one_bad_row_breaks_only_its_own_request(bags):
    loaded = load_network(config(bags[0], BAGS_CONFIG))
    good, bad = ([np.array([[n]]), np.ones((1, 1), np.float32)] for n in (1, 99))
    first, broken, last = compute(loaded.run, loaded.described.signature, CPU, [good, bad, good])
    assert isinstance(broken, IndexError)
    np.testing.assert_array_equal(first[0], last[0])


def test_a_failed_device_is_not_asked_again():
    calls = []

    def run(_: Any) -> list[Tensor]:
        calls.append(1)
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    from localmodel.api.predict import Signature, TensorSpec

    signature = Signature(inputs=(TensorSpec(name="x", datatype="FP32", shape=(-1, 1)),), outputs=(), batched=True)

    class Card:
        type = "cuda"

    import unittest.mock as mock

    with mock.patch.object(Tensor, "to", lambda self, device: self):
        answers = compute(run, signature, Card(), [[np.ones((1, 1), np.float32)]] * 3)
    assert len(calls) == 1 and all(isinstance(answer, DeviceFailed) for answer in answers)


def test_a_script_computes_with_the_tensors_of_the_spec(mlp):
    loaded = load_network(config(mlp[0], MLP_CONFIG))
    assert loaded.described.signature.batched and loaded.example == ((1, 4),)
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    (answer,) = compute(loaded.run, loaded.described.signature, CPU, [[rows]])
    np.testing.assert_allclose(answer[0], mlp[1](torch.from_numpy(rows)).detach(), atol=1e-6)


def test_a_script_without_tensors_is_told_what_to_write(mlp):
    found = failure(lambda: describe_with_names(config(mlp[0], {**MLP_CONFIG, "tensors": None})))
    assert found.code == "SignatureMissing"
    assert "Its forward takes x." in found.message and "{name: x, datatype: FP32, shape: [-1, 4]}" in found.message


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        ([("x", "FP32", [-1, 5])], MLP_TENSORS["outputs"], "can't compute x FP32 [1, 5]"),
        ([("x", "INT64", [-1, 4])], MLP_TENSORS["outputs"], "can't compute x INT64 [1, 4]"),
        (MLP_TENSORS["inputs"], [("y", "FP32", [-1, 2])], "for 1 rows the network gives float32 [1, 3]"),
        (MLP_TENSORS["inputs"], [("y", "FP64", [-1, 3])], "its signature says y FP64 [-1, 3]"),
        (MLP_TENSORS["inputs"], [("y", "FP32", [-1, 3]), ("z", "FP32", [-1, 3])], "its signature says y"),
        ([("x", "FP32", [-1, 4]), ("z", "FP32", [-1, 4])], MLP_TENSORS["outputs"], "forward of"),
    ],
)  # fmt: skip
def test_a_wrong_signature_is_found_at_load(mlp, inputs, outputs, words):
    sides = [side if isinstance(side[0], dict) else tensors(side, [])["inputs"] for side in (inputs, outputs)]
    written = {"inputs": sides[0], "outputs": sides[1]}
    found = failure(lambda: load_network(config(mlp[0], MLP_CONFIG, tensors=written)))
    assert found.code == "SignatureMismatch" and words in found.message


def test_sizes_that_a_file_leaves_open_are_tried(tmp_path):
    class Conv(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(1, 2, 5)

        def forward(self, image: Tensor) -> Tensor:
            return self.layer(image).mean((2, 3))

    torch.jit.script(Conv().eval()).save(str(tmp_path / "model.pt"))
    written = tensors([("image", "FP32", [-1, 1, -1, -1])], [("y", "FP32", [-1, 2])])
    assert load_network(config(tmp_path, MLP_CONFIG, tensors=written)).example == ((1, 1, 16, 16),)


def test_files_that_are_absent_or_broken(tmp_path, mlp):
    found = failure(lambda: describe(config(tmp_path, MLP_CONFIG)))
    assert found.code == "ModelFilesMissing" and "has no model.pt;" in found.message
    found = failure(lambda: describe(config(mlp[0], BAGS_CONFIG)))
    assert found.code == "ModelFilesMissing" and "It contains: model.pt" in found.message
    (tmp_path / "model.pt").write_bytes((mlp[0] / "model.pt").read_bytes()[:-100])
    assert failure(lambda: describe(config(tmp_path, MLP_CONFIG))).code == "ModelFilesCorrupt"
    torch.save(mlp[1].state_dict(), tmp_path / "model.pt")
    found = failure(lambda: describe(config(tmp_path, MLP_CONFIG)))
    assert found.code == "ModelFilesCorrupt" and "written by torch.save" in found.message
    (tmp_path / "model.pt2").write_bytes((mlp[0] / "model.pt").read_bytes())
    found = failure(lambda: describe(config(tmp_path, BAGS_CONFIG)))
    assert found.code == "ModelFilesCorrupt" and "torch.export.save" in found.message


def test_a_file_for_a_card_on_a_cpu(tmp_path, bags):
    def move(name: str, data: bytes) -> bytes:
        return data.replace(b'"type": "cpu"', b'"type": "cuda"') if name.endswith("weights_config.json") else data

    rewrite(bags[0] / "model.pt2", tmp_path / "model.pt2", move)
    found = failure(lambda: load_network(config(tmp_path, BAGS_CONFIG)))
    assert found.code == "DeviceUnavailable" and "spec.gpu.count to 1" in found.message


def test_a_script_that_computes_on_a_card(tmp_path):
    class Traced(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.ones(3, device="cuda:0").to(x.device)

    torch.jit.script(Traced()).save(str(tmp_path / "model.pt"))
    found = failure(
        lambda: load_network(config(tmp_path, MLP_CONFIG, tensors=tensors([("x", "FP32", [3])], [("y", "FP32", [3])])))
    )
    assert (found.code, "spec.gpu.count to 1" in found.message) == ("DeviceUnavailable", True), found.message


def test_what_does_not_fit_is_told_with_both_numbers(mlp):
    found = failure(lambda: load_network(config(mlp[0], MLP_CONFIG, host_memory_bytes=2**20)))
    assert found.code == "OutOfMemory" and "the cap is 1048576 bytes" in found.message


def rewrite(source: Path, target: Path, change: Callable[[str, bytes], bytes], more: dict[str, bytes] | None = None) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
        for name, data in (more or {}).items():
            new.writestr(f"{root}/{name}", data)


class Payload:
    """Leaves a trace if it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.trace),))


def set_json(record: str, change: Callable[[Any], None]) -> Callable[[str, bytes], bytes]:
    def apply(name: str, data: bytes) -> bytes:
        if not name.endswith(record):
            return data
        document = json.loads(data)
        change(document)
        return json.dumps(document).encode()

    return apply


def set_target(document: Any, target: str) -> None:
    document["graph_module"]["graph"]["nodes"][0]["target"] = target


def set_size(document: Any, text: str) -> None:
    text = text.replace("s0", "Symbol('s0', positive=True, integer=True)")
    for meta in document["graph_module"]["graph"]["tensor_values"].values():
        for size in meta["sizes"]:
            if "as_expr" in size:
                size["as_expr"]["expr_str"] = text


EVIL_PROGRAMS = {
    "pickled weight": set_json("weights_config.json", lambda d: next(iter(d["config"].values())).update(use_pickle=True)),
    "os.system": set_json("models/model.json", lambda d: set_target(d, "torch.os.system")),
    "hub": set_json("models/model.json", lambda d: set_target(d, "torch.hub.load")),
    "file": set_json("models/model.json", lambda d: set_target(d, "torch.ops.aten.from_file.default")),
    "attrgetter": set_json("models/model.json", lambda d: set_target(d, "_operator.attrgetter")),
    "expression": set_json("models/model.json", lambda d: set_size(d, "__import__('os').system('true')")),
    "built-in": set_json("models/model.json", lambda d: set_size(d, "eval(chr(49))")),
    "name": set_json("models/model.json", lambda d: set_size(d, "Symbol('eval')(Integer(1))")),
    "attribute": set_json("models/model.json", lambda d: set_size(d, "s0.x")),
    "constraint": set_json(
        "models/model.json", lambda d: d["range_constraints"].update({"exec(1)": {"min_val": 0, "max_val": 1}})
    ),
}


@pytest.mark.parametrize("evil", EVIL_PROGRAMS)
def test_a_program_that_would_run_code_is_not_read(tmp_path, bags, evil):
    rewrite(bags[0] / "model.pt2", tmp_path / "model.pt2", EVIL_PROGRAMS[evil])
    assert failure(lambda: describe(config(tmp_path, BAGS_CONFIG))).code == "UnsafeModelFile"


@pytest.mark.parametrize(
    "record", ["data/aotinductor/model/x.so", "data/constants/opaque_obj_0", "data/weights/model.pt", "models/b.json"]
)
def test_records_that_no_plain_network_has(tmp_path, bags, record):
    rewrite(bags[0] / "model.pt2", tmp_path / "model.pt2", lambda _, data: data, {record: b"{}"})
    found = failure(lambda: open_program(tmp_path))
    assert found.code == "UnsafeModelFile" and record in found.message


def test_pickled_example_inputs_are_not_run(tmp_path, bags):
    """torch.export.load falls back to unpickling anything."""
    trace = tmp_path / "trace"

    def poison(name: str, data: bytes) -> bytes:
        return pickle.dumps(Payload(trace)) if name.endswith("sample_inputs/model.pt") else data

    rewrite(bags[0] / "model.pt2", tmp_path / "model.pt2", poison)
    assert failure(lambda: load_network(config(tmp_path, BAGS_CONFIG))).code == "UnsafeModelFile"
    assert not trace.exists()


def test_a_record_twice_is_refused(tmp_path, bags):
    with pytest.warns(UserWarning, match="Duplicate name"):
        rewrite(bags[0] / "model.pt2", tmp_path / "model.pt2", lambda _, data: data, {"models/model.json": b"{}"})
    assert failure(lambda: open_program(tmp_path)).code == "UnsafeModelFile"


def test_a_script_that_touches_files_is_not_read(tmp_path):
    class Writer(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            torch.save(x, "stolen.pt")
            return x

    torch.jit.script(Writer()).save(str(tmp_path / "model.pt"))
    found = failure(lambda: open_script(tmp_path))
    assert found.code == "UnsafeModelFile" and "uses save" in found.message


def test_what_is_no_tensor_is_refused(tmp_path):
    class Sized(nn.Module):
        def forward(self, x: Tensor, n: int) -> Tensor:
            return x * n

    torch.jit.script(Sized()).save(str(tmp_path / "model.pt"))
    found = failure(lambda: load_network(config(tmp_path, MLP_CONFIG)))
    assert found.code == "SignatureMismatch" and "n: int" in found.message

    class Half(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.to(torch.bfloat16)

    torch.export.save(torch.export.export(Half(), (torch.ones(2),)), tmp_path / "model.pt2")
    found = failure(lambda: describe(config(tmp_path, BAGS_CONFIG)))
    assert found.code == "SignatureMismatch" and "bfloat16" in found.message


def test_a_program_without_batches(tmp_path):
    torch.export.save(torch.export.export(nn.Linear(2, 1), (torch.ones(3, 2),)), tmp_path / "model.pt2")
    loaded = load_network(config(tmp_path, BAGS_CONFIG))
    assert loaded.described.signature.describe() == "input FP32 [3, 2] -> output FP32 [3, 1]"
    assert not loaded.described.signature.batched and loaded.example == ((3, 2),)
    answers = compute(loaded.run, loaded.described.signature, CPU, [[np.ones((3, 2), np.float32)]] * 2)
    assert [answer[0].shape for answer in answers] == [(3, 1), (3, 1)]


def test_the_collector_looks_no_more_at_what_a_worker_lives_with(bags):
    thresholds = gc.get_threshold()
    gc.unfreeze()
    gc.set_threshold(700, 10, 10)
    worker = PredictWorker(config(bags[0], BAGS_CONFIG), log=lambda _: None, exit_process=lambda: None)
    try:
        worker.start()
        assert gc.get_freeze_count() > 10_000
        assert gc.get_threshold()[0] == YOUNG_OBJECTS
    finally:
        worker.stop()
        gc.unfreeze()
        gc.set_threshold(*thresholds)


WORKER = """
import sys, time
from pathlib import Path
from localmodel.engine.predict_link import Beacon, WorkerState
Beacon(Path(sys.argv[1]), lambda: WorkerState(steps_total=3)).start()
print("up", flush=True)
time.sleep(60)
"""


def test_a_worker_that_stops_or_dies_is_noticed(tmp_path):
    watch = Watch(tmp_path)
    engine = PredictEngine(watch)
    assert watch.read() is None and not watch.lives() and engine.step_age_seconds() == 0
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "operator")}
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path)], stdout=subprocess.PIPE, env=environment)
    try:
        assert worker.stdout is not None and worker.stdout.readline() == b"up\n"
        state = watch.read()
        assert state is not None and state.steps_total == 3 and watch.lives() and engine.step_age_seconds() == 0
        assert Watch(tmp_path).read() is None or Watch(tmp_path).lives(), "an old file counts for nothing"
        worker.send_signal(signal.SIGSTOP)
        until = time.monotonic() + 30
        while engine.step_age_seconds() < 1:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert watch.lives(), "it hangs and has not died"
    finally:
        worker.kill()
        worker.wait()
    assert not watch.lives()


def test_a_worker_that_is_unloaded_has_not_died(tmp_path):
    watch = Watch(tmp_path)
    beacon = Beacon(tmp_path, lambda: WorkerState(step_began=time.monotonic() - 5))
    beacon.start()
    assert watch.lives() and PredictEngine(watch).step_age_seconds() >= 5
    beacon.stop()
    state = watch.read()
    assert state is not None and state.ended and not watch.lives()
    assert PredictEngine(watch).step_age_seconds() == 0

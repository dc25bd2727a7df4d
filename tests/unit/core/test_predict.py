"""A Predict model as Triton, the engine and the gateway are told of it."""

import json
from dataclasses import replace

from localmodel.api.predict import Signature, TensorSpec
from localmodel.api.status import LocalModelStatus
from localmodel.core.predict import build_predict_config
from localmodel.core.render import Layout, render_files, serves_page
from localmodel.core.status import derive_status
from simulation.world import NOW, build_model, build_options, observe_running

X = TensorSpec(name="x", datatype="FP32", shape=(-1, 4))
SCORE = TensorSpec(name="score", datatype="INT64", shape=(-1,))
SPEC = {
    "model": {
        "source": {"pvc": {"claimName": "models", "path": "mlp"}}, "task": "Predict", "format": "TorchScript",
        "config": {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}], "batchDelay": "2ms"},
    },
    "gpu": {"count": 0}, "maxBatchSize": 8,
}  # fmt: skip


def test_a_batched_signature_is_batched_by_triton():
    config = build_predict_config(Signature(inputs=(X,), outputs=(SCORE,), batched=True), 8, 0.002)
    assert config["max_batch_size"] == 8
    assert config["dynamic_batching"] == {"max_queue_delay_microseconds": 2000}
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}]
    assert config["output"] == [{"name": "score", "data_type": "TYPE_INT64", "dims": [1], "reshape": {"shape": []}}]


def test_another_signature_has_all_its_sizes_and_no_batches():
    config = build_predict_config(Signature(inputs=(X,), outputs=(SCORE,)), 8, 0)
    assert config["max_batch_size"] == 0 and "dynamic_batching" not in config
    assert config["input"][0]["dims"] == [-1, 4] and config["output"][0]["dims"] == [-1]


def test_files_of_a_predict_model():
    model = build_model(**SPEC)
    files = render_files(model, Layout(model_path="/models"))
    engine, gateway = json.loads(files.model_json), json.loads(files.gateway_json)
    assert (engine["task"], engine["format"]) == ("Predict", "TorchScript")
    assert engine["tensors"]["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert (gateway["task"], gateway["batch_delay_seconds"], gateway["concurrency"]["max"]) == ("Predict", 0.002, 16)
    assert not serves_page(model)


def test_a_language_model_is_told_nothing_of_tensors():
    engine = json.loads(render_files(build_model(), Layout(model_path="/models")).model_json)
    assert "format" not in engine and "tensors" not in engine


def test_clients_see_a_batch_of_numbers_as_a_column():
    signature = Signature(inputs=(X,), outputs=(SCORE,), batched=True)
    assert signature.wire().describe() == "x FP32 [-1, 4] -> score INT64 [-1, 1]"
    assert Signature(inputs=(X,), outputs=(SCORE,)).wire().outputs == (SCORE,)


def test_the_signature_reaches_the_status_and_stays_while_the_gateway_is_away():
    model, options = build_model(**SPEC), build_options()
    planned, observed = observe_running(model, options)
    told = {}
    for name, report in observed.gateways.items():
        engine = {**report.backend.engine, "signature": "x FP32 [-1, 4] -> y FP32 [-1, 3]"}
        told[name] = report.model_copy(update={"backend": report.backend.model_copy(update={"engine": engine})})
    status = derive_status(model, planned, replace(observed, gateways=told), LocalModelStatus(), NOW)
    assert status.signature == "x FP32 [-1, 4] -> y FP32 [-1, 3]"
    silent = replace(observed, gateways=dict.fromkeys(told))
    assert derive_status(model, planned, silent, status, NOW).signature == status.signature
    assert derive_status(build_model(), planned, observed, status, NOW).signature is None

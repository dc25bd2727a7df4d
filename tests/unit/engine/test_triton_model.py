"""The model class that Triton calls, with a stand-in for Triton's module."""

import importlib
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest


class Sender:
    def __init__(self, *, gone=False):
        self.sent, self._gone = [], gone

    def send(self, response=None, flags=0):
        if self._gone:
            raise RuntimeError("Unable to send response. Response sender has been closed.")
        self.sent.append((response, flags))


class Request:
    def __init__(self, document, sender):
        self.document, self.sender = document, sender

    def get_response_sender(self):
        return self.sender


@pytest.fixture
def model(monkeypatch):
    utils = SimpleNamespace(
        Tensor=lambda name, array: array[0],
        InferenceResponse=lambda tensors: tensors[0],
        TRITONSERVER_RESPONSE_COMPLETE_FINAL=1,
        Logger=SimpleNamespace(log_error=lambda line: logged.append(line)),
        get_input_tensor_by_name=lambda request, name: SimpleNamespace(as_numpy=lambda: np.array([request.document])),
    )
    logged = []
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utils)
    monkeypatch.delitem(sys.modules, "localmodel.engine.triton", raising=False)
    made = importlib.import_module("localmodel.engine.triton").TritonPythonModel()
    made.logged = logged
    yield made
    sys.modules.pop("localmodel.engine.triton", None)


def handle(document, stream):
    if document == "bad":
        raise ValueError("a bug")
    stream.send("fine", final=True)


def test_a_request_that_fails_and_whose_client_has_left_takes_no_other_with_it(model):
    model._service = SimpleNamespace(handle=handle)
    gone, failed, sound = Sender(gone=True), Sender(), Sender()
    model.execute([Request("bad", gone), Request("bad", failed), Request("good", sound)])
    assert [json.loads(text)["code"] for text, flags in failed.sent if flags == 1] == ["failed"]
    assert sound.sent == [(b"fine", 1)]
    assert len(model.logged) == 3

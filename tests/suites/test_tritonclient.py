"""tritonclient's HTTP client through /v2: what a language model serves works, everything else is a clean 404."""

import json
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from suites.live import LiveGateway

pytestmark = pytest.mark.timeout(1500)
Client = triton_http.InferenceServerClient


@pytest.fixture
def client(language_model: LiveGateway) -> Iterator[Client]:
    with Client(language_model.url.removeprefix("http://")) as client:
        yield client


def test_health_and_metadata(client: Client) -> None:
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("smollm2") and client.is_model_ready("llm")
    assert client.get_server_metadata()["name"] == "triton"
    metadata = client.get_model_metadata("smollm2")
    assert metadata["inputs"] == [{"name": "REQUEST", "datatype": "BYTES", "shape": [1]}]
    assert [output["name"] for output in metadata["outputs"]] == ["RESPONSE"]


def test_generate_with_the_clients_own_connection(client: Client) -> None:
    text = json.dumps({"text": "The capital of France is", "sampling": {"temperature": 0, "max_tokens": 4}})
    reply = client._post("v2/models/smollm2/generate", json.dumps({"REQUEST": text}), {}, None)
    assert reply.status_code == 200 and "Paris" in json.loads(json.loads(reply.read())["RESPONSE"])["text"]


def infer(client: Client) -> object:
    tensor = triton_http.InferInput("REQUEST", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([b"{}"], dtype=np.object_))
    return client.infer("smollm2", [tensor])


@pytest.mark.parametrize(
    "call",
    [
        infer,
        lambda client: client.get_model_config("smollm2"),
        lambda client: client.get_model_repository_index(),
        lambda client: client.load_model("smollm2"),
        lambda client: client.unload_model("smollm2"),
        lambda client: client.get_inference_statistics("smollm2"),
        lambda client: client.get_system_shared_memory_status(),
        lambda client: client.register_system_shared_memory("a", "/a", 8),
        lambda client: client.get_trace_settings(),
        lambda client: client.update_log_settings({"log_info": False}),
        lambda client: client.get_model_metadata("other"),
    ],
    ids=["infer", "config", "index", "load", "unload", "statistics", "shared memory", "register", "trace", "log", "other model"],
)
def test_the_rest_is_not_reachable(client: Client, call: Callable[[Client], object]) -> None:
    with pytest.raises(InferenceServerException, match="Not Found") as caught:
        call(client)
    assert caught.value.status() == "404"

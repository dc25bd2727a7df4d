"""all-MiniLM-L6-v2 with its real weights through the real tritonserver, against transformers."""

import base64
import json
import socket
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import weights
from localmodel.engine.tokenizer import load_tokenizer

pytestmark = pytest.mark.triton

SENTENCES = [
    "A cat sleeps on the sofa.", "A kitten is resting on a couch.", "The central bank raised interest rates.",
    "Das Wetter ist heute schön.", "日本語の文章です。", "", "word " * 300,
]  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return weights.make(weights.default_destination("minilm-l6-v2"), weights.MINILM)


@pytest.fixture(scope="module")
def server(tmp_path_factory, server_class, model):
    server = server_class(tmp_path_factory.mktemp("triton"), model, task="Embedding", context_window=512)
    try:
        status, answer = server.load()
        assert status == 200, answer
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def ids(model):
    tokenizer = load_tokenizer(model / "tokenizer.json")
    return [tokenizer.encode(sentence).ids for sentence in SENTENCES]


def vectors(answer):
    assert answer["dimensions"] == 384, answer
    return np.array([np.frombuffer(base64.b64decode(vector), dtype="<f4") for vector in answer["vectors"]])


def test_vectors_are_those_of_transformers(server, model, ids):
    from transformers import AutoModel

    torch.set_num_threads(1)
    network = AutoModel.from_pretrained(model, dtype=torch.float32)
    made = vectors(server.ask("embed", inputs=ids))
    with torch.inference_mode():
        for vector, text in zip(made, ids, strict=True):
            expected = network(torch.tensor([text])).last_hidden_state[0].mean(dim=0)
            assert torch.nn.functional.cosine_similarity(torch.from_numpy(vector), expected, dim=0) > 0.99999
    assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    cat, kitten, bank = made[:3]
    assert cat @ kitten > 0.5 > cat @ bank


def test_requests_at_once_get_their_own_vectors(server, ids):
    alone = [vectors(server.ask("embed", inputs=[text]))[0] for text in ids]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: server.ask("embed", inputs=[ids[number % len(ids)]] * 3), range(24)))
    for number, answer in enumerate(answers):
        assert np.allclose(vectors(answer), alone[number % len(ids)], atol=1e-5)


def test_a_cancelled_request_is_computed_no_further(server, ids):
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.ask, "embed", instance="a", id="e1", inputs=[[7] * 500] * 400)
        server.wait_until(lambda: server.status()["running"] == 1, "the first step")
        assert server.ask("cancel", instance="a", ids=["e1"]) == {"cancelled": ["e1"]}
        assert asked.result(60)["code"] == "failed"
    status = server.status()
    assert (status["running"], status["waiting"]) == (0, 0) and status["tokens_total"] < 100_000
    assert len(vectors(server.ask("embed", inputs=ids[:1]))) == 1


def test_what_a_killed_gateway_had_asked_for_is_computed_no_further(server):
    """Its event stream tells: Triton doesn't say that who waits for an answer has left."""
    stream, before = server.events("killed"), server.status()["tokens_total"]
    document = {"op": "embed", "token": server.token, "instance": "killed", "id": "e1", "inputs": [[7] * 500] * 1000}
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        body = json.dumps({"REQUEST": json.dumps(document)}).encode()
        head = f"POST /v2/models/llm/generate HTTP/1.1\r\nhost: triton\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        server.wait_until(lambda: server.status()["running"] == 1, "the first step")
    stream.cut()
    server.wait_until(lambda: server.status()["running"] == 0, "the end of its batch")
    assert server.status()["tokens_total"] - before < 400_000


def test_status_heartbeats_and_refusals(server):
    status = server.status()
    assert (status["task"], status["architecture"], status["context_window"]) == ("Embedding", "BertModel", 512)
    stream = server.events("idle")
    server.wait_until(lambda: len(stream.batches) >= 3, "heartbeats")
    assert server.submit("idle", "s", "hello")["code"] == "invalid_request"
    assert server.ask("embed", inputs=[[1] * 513])["code"] == "context_length_exceeded"
    assert server.ask("embed", inputs=[])["code"] == "invalid_request"
    assert server.ask("embed", token="x", inputs=[[1]])["code"] == "bad_token"

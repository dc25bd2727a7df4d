"""Embedding models: vectors against transformers, what is refused, and how requests share the engine."""

import base64
import gc
import json
import random
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from localmodel.api.channel import Embedded
from localmodel.api.engine import EngineConfig
from localmodel.engine.embedding_engine import MOST_WAITING, EmbeddingEngine
from localmodel.engine.embedding_loader import load_encoder
from localmodel.engine.embedding_service import EmbeddingService
from localmodel.engine.errors import LoadError, Refused
from localmodel.engine.housekeeping import YOUNG_OBJECTS
from localmodel.engine.loader import load_model

SIZES = {
    "vocab_size": 259, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 64, "initializer_range": 0.3,
}  # fmt: skip


@pytest.fixture(scope="module")
def bert(tmp_path_factory, byte_tokenizer):
    from transformers import BertConfig, BertModel

    directory = tmp_path_factory.mktemp("bert")
    torch.manual_seed(5)
    network = BertModel(BertConfig(**SIZES)).eval()
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    network.save_pretrained(directory)
    byte_tokenizer.save(str(directory / "tokenizer.json"))
    return directory, network


@pytest.fixture
def configure(bert, tmp_path):
    def make(path=None, **changes):
        values = {
            "model_path": str(path or bert[0]), "task": "Embedding", "context_window": 64, "max_batch_size": 4, "cpu_threads": 1,
            "channel_token_file": str(tmp_path / "token"),
        }  # fmt: skip
        return EngineConfig(**{**values, **changes})

    return make


@pytest.fixture
def edit(bert, tmp_path):
    """A copy of the model's directory with files written beside, and keys of config.json changed."""

    def make(files=None, **changes):
        directory = tmp_path / "model"
        directory.mkdir()
        for file in bert[0].iterdir():
            (directory / file.name).write_bytes(file.read_bytes())
        config = json.loads((directory / "config.json").read_text())
        (directory / "config.json").write_text(json.dumps({**config, **changes}))
        for name, content in (files or {}).items():
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_text(json.dumps(content))
        return directory

    return make


def texts(count, seed=1):
    source = random.Random(seed)
    return [tuple(source.randrange(256) for _ in range(source.randint(1, 60))) for _ in range(count)]


@torch.inference_mode()
def expected(network, text, pooling="mean"):
    states = network(torch.tensor([text])).last_hidden_state[0]
    return torch.nn.functional.normalize(states[0] if pooling == "cls" else states.mean(dim=0), dim=-1)


def pooling_files(**modes):
    modules = [
        {"path": "", "type": "sentence_transformers.models.Transformer"},
        {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
    return {"modules.json": modules, "1_Pooling/config.json": {"word_embedding_dimension": 48, **modes}}


def test_vectors_are_those_of_transformers_batched_and_alone(bert, configure):
    encoder, some = load_encoder(configure()).encoder, texts(30)
    together = encoder.encode(some)
    for number, text in enumerate(some):
        reference = expected(bert[1], text)
        assert float(together[number] @ reference) > 0.99999
        assert torch.allclose(encoder.encode([text])[0], together[number], atol=1e-5)
    assert torch.allclose(together.norm(dim=1), torch.ones(30), atol=1e-5)


def test_the_first_token_where_the_files_say_so(bert, configure, edit):
    directory = edit(pooling_files(pooling_mode_cls_token=True, pooling_mode_mean_tokens=False))
    text = texts(1)[0]
    assert float(load_encoder(configure(directory)).encoder.encode([text])[0] @ expected(bert[1], text, "cls")) > 0.99999


def test_bfloat16_is_near(bert, configure):
    some = texts(5)
    vectors = load_encoder(configure(dtype="bfloat16")).encoder.encode(some)
    assert min(float(vector @ expected(bert[1], text)) for vector, text in zip(vectors, some, strict=True)) > 0.99


@pytest.mark.parametrize(
    "files, changes, code, words",
    [
        (pooling_files(pooling_mode_max_tokens=True), {}, "UnsupportedArchitecture", "pooling_mode_max_tokens"),
        ({"modules.json": [{"type": "x.models.Dense", "path": ""}]}, {}, "UnsupportedArchitecture", "Dense"),
        ({}, {"hidden_act": "relu"}, "UnsupportedArchitecture", "relu"),
        ({}, {"position_embedding_type": "relative_key"}, "UnsupportedArchitecture", "relative_key"),
        ({}, {"architectures": ["T5Model"]}, "UnsupportedArchitecture", "supported for the task Embedding: BertModel"),
        ({}, {"intermediate_size": 81}, "ModelFilesCorrupt", "config.json asks for [81, 48]"),
        ({"modules.json": [{"type": "x.Pooling", "path": "1_P"}]}, {}, "ModelFilesMissing", "1_P/config.json can't be read"),
    ],
)
def test_what_is_not_computed_here(configure, edit, files, changes, code, words):
    with pytest.raises(LoadError) as caught:
        load_encoder(configure(edit(files, **changes)))
    assert str(caught.value).startswith(f"[{code}]") and words in str(caught.value)


@pytest.mark.parametrize(
    "changes, code", [({"context_window": 65}, "ContextWindowTooLarge"), ({"host_memory_bytes": 10_000_000}, "OutOfMemory")]
)
def test_what_does_not_fit(configure, changes, code):
    with pytest.raises(LoadError, match=code):
        load_encoder(configure(**changes))


def test_a_text_generator_says_that_the_task_is_another(configure):
    with pytest.raises(LoadError, match="task: Embedding"):
        load_model(configure(task="TextGeneration"))


class Desk:
    """An engine whose vectors tell which text they belong to, and what was computed together."""

    def __init__(self, step_tokens=10):
        self.steps, self.answers = [], {}
        self.engine = EmbeddingEngine(self.encode, context=20, vocabulary=100, step_tokens=step_tokens)

    def encode(self, some):
        self.steps.append(some)
        return torch.tensor([[float(text[0]), float(len(text))] for text in some])

    def ask(self, name, *some, instance="gateway"):
        self.engine.embed((instance, name), some, lambda answer: self.answers.update({name: answer}))


def unpack(embedded):
    return [np.frombuffer(base64.b64decode(vector), dtype="<f4").tolist() for vector in embedded.vectors]


def test_a_long_request_does_not_keep_a_short_one_waiting():
    desk = Desk()
    desk.ask("long", *[(number, 7, 7, 7) for number in range(40)])
    desk.ask("short", (50, 1), (51,))
    desk.engine.step()
    assert desk.answers == {} and desk.steps[0] == [(0, 7, 7, 7), (50, 1), (1, 7, 7, 7)]
    desk.engine.step()
    assert unpack(desk.answers["short"]) == [[50, 2], [51, 1]]
    while "long" not in desk.answers:
        desk.engine.step()
    assert unpack(desk.answers["long"]) == [[number, 4] for number in range(40)]
    assert all(sum(map(len, step)) < 10 + 4 for step in desk.steps)
    assert desk.engine.load() == (0, 0, 0)
    assert desk.engine.tokens_total == 163


def test_nor_do_many_long_ones_that_fill_every_step():
    desk = Desk()
    for name in range(4):
        desk.ask(name, *[(number, 7, 7, 7) for number in range(40)])
    desk.ask("short", (50,))
    desk.engine.step()
    desk.engine.step()
    assert unpack(desk.answers["short"]) == [[50, 1]]


def test_a_gateway_that_is_gone_costs_at_most_the_step_that_runs():
    """Also what has no name."""
    desk = Desk()
    desk.ask("long", *[(number, 7, 7, 7) for number in range(40)])
    desk.ask("", (50,))
    desk.ask("another's", (51, 1), instance="another")
    desk.engine.step()
    desk.engine.cancel_all("gateway")
    desk.engine.step()
    assert desk.answers["long"].code == "failed" and unpack(desk.answers["another's"]) == [[51, 2]]
    assert desk.engine.load() == (0, 0, 0) and len(desk.steps) == 1


def test_a_cancel_that_names_nothing_ends_nothing():
    desk = Desk()
    desk.ask("", (1,))
    desk.engine.cancel(("gateway", ""))
    desk.engine.step()
    assert unpack(desk.answers[""]) == [[1, 1]]


def test_what_is_cancelled_is_refused_at_once_and_computed_no_further():
    desk = Desk()
    desk.ask("running", *[(number, 7, 7, 7) for number in range(40)])
    desk.ask("waiting", (50,), *[(51, 7, 7, 7)] * 3)
    desk.engine.step()
    desk.engine.cancel(("gateway", "running"))
    assert desk.answers["running"].code == "failed" and "waiting" not in desk.answers
    for key in (("gateway", "running"), ("another", "waiting"), ("gateway", "never asked")):
        desk.engine.cancel(key)
    desk.engine.step()
    assert unpack(desk.answers["waiting"]) == [[50, 1], [51, 4], [51, 4], [51, 4]]
    assert desk.engine.load() == (0, 0, 0) and sum(map(len, desk.steps)) < 10


def test_a_cancel_during_a_step_is_no_less_one():
    desk = Desk()
    encode = desk.encode

    def cancel_meanwhile(some):
        desk.engine.cancel(("gateway", "a"))
        return encode(some)

    desk.engine._encode = cancel_meanwhile
    desk.ask("a", (1,))
    desk.ask("b", (2,))
    desk.engine.step()
    assert desk.answers["a"].code == "failed" and unpack(desk.answers["b"]) == [[2, 1]]
    assert desk.engine.load() == (0, 0, 0)


@pytest.mark.parametrize(
    "some, code", [([()], "invalid_request"), ([(1,), (100,)], "invalid_request"), ([(-1,)], "invalid_request"),
                   ([(1,), (1,) * 21], "context_length_exceeded")],
)  # fmt: skip
def test_refusals_name_the_input(some, code):
    with pytest.raises(Refused) as caught:
        Desk().ask("x", *some)
    assert caught.value.refusal.code == code
    assert f"input {len(some) - 1}" in caught.value.refusal.message


def test_too_many_and_the_end():
    desk = Desk()
    for number in range(MOST_WAITING):
        desk.ask(number, (1,))
    with pytest.raises(Refused, match="waiting"):
        desk.ask("more", (1,))
    assert desk.engine.end_all() == []
    assert {answer.code for answer in desk.answers.values()} == {"failed"} and len(desk.answers) == MOST_WAITING
    with pytest.raises(Refused, match="stopping"):
        desk.ask("late", (1,))
    assert not desk.engine.wait_for_work()


def test_the_collector_looks_no_more_at_what_a_service_lives_with(service):
    assert gc.get_freeze_count() > 10_000
    assert gc.get_threshold()[0] == YOUNG_OBJECTS


class Reply:
    def __init__(self):
        self.texts, self.closed, self.cancelled = [], False, False

    def send(self, text, *, final=False):
        self.texts.append(json.loads(text))
        self.closed = final

    def close(self):
        self.closed = True

    def is_cancelled(self):
        return self.cancelled


@pytest.fixture
def collector():
    """As a new process has it, and afterwards as it was."""
    thresholds = gc.get_threshold()
    gc.unfreeze()
    gc.set_threshold(700, 10, 10)
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@pytest.fixture
def service(configure, collector):
    fatal = []
    service = EmbeddingService(configure(), log=lambda _: None, exit_process=lambda: fatal.append(True))
    service.start()
    yield service
    service.stop()
    assert fatal == []


@pytest.fixture
def until():
    def wait(condition):
        pause = threading.Event()
        for _ in range(1000):
            if condition():
                return
            pause.wait(0.01)
        raise AssertionError("it did not happen within ten seconds")

    return wait


def ask(service, config, op, **document):
    reply = Reply()
    token = Path(config.channel_token_file).read_text().strip()
    service.handle(json.dumps({"op": op, "token": token, **document}), reply)
    return reply


def test_a_gateway_gets_vectors_heartbeats_and_refusals_through_the_channel(service, configure, bert, until):
    config, some = configure(), texts(3)
    events = ask(service, config, "events", instance="a", epoch=1)
    reply = ask(service, config, "embed", inputs=some)
    until(lambda: reply.closed)
    (answer,) = reply.texts
    vectors = [torch.tensor(vector) for vector in unpack(Embedded.model_validate(answer))]
    assert answer["dimensions"] == 48
    assert all(float(vector @ expected(bert[1], text)) > 0.99999 for vector, text in zip(vectors, some, strict=True))
    status = ask(service, config, "status").texts[0]
    assert (status["task"], status["architecture"], status["steps_total"]) == ("Embedding", "BertModel", 1)
    submit = {"instance": "a", "epoch": 1, "sequences": [{"id": "s", "prompt": [1]}]}
    refused = ask(service, config, "submit", **submit).texts[0]["refused"]["s"]
    assert refused["code"] == "invalid_request" and "embeddings" in refused["message"]
    assert ask(service, config, "embed", token="x", inputs=some).texts[0]["code"] == "bad_token"
    assert ask(service, config, "embed", inputs=[[300]]).texts[0]["code"] == "invalid_request"
    cancelled = ask(service, config, "cancel", instance="a", ids=["e1"]).texts[0]
    assert cancelled == {"cancelled": ["e1"]}
    until(lambda: len(events.texts) >= 2)
    assert events.texts[-1][3] == []


def test_a_batch_of_a_killed_gateway_is_computed_no_further(configure, collector, until):
    service = EmbeddingService(configure(reconnect_grace_seconds=0.1), log=lambda _: None, exit_process=lambda: None)
    encode, going = service.engine._encode, threading.Event()

    def encode_slowly(some):
        assert going.wait(60)
        return encode(some)

    service.engine._encode = encode_slowly
    service.start()
    try:
        events = ask(service, configure(), "events", instance="a", epoch=1)
        reply = ask(service, configure(), "embed", instance="a", id="e1", inputs=[(7,) * 60] * 2000)
        until(lambda: service.engine.load()[0])
        events.cancelled = True
        until(lambda: reply.closed)
        going.set()
        assert reply.texts[0]["code"] == "failed"
        until(lambda: service.engine.steps_total)
        assert service.engine.load() == (0, 0, 0)
    finally:
        going.set()
        service.stop()

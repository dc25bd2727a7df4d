"""Answers that must fit a JSON schema: what is allowed, what is refused, and how a request with one lives and ends."""

import json
import random
import threading
import time

import jsonschema
import numpy as np
import pytest

from engine_runs import run_all
from localmodel.api.channel import Sampling
from localmodel.engine.compiling import Compiling
from localmodel.engine.constraint import ConstraintError, mask_words
from localmodel.engine.errors import Refused
from localmodel.engine.json_schema import JsonSchemas
from localmodel.engine.loader import load_model
from localmodel.engine.service import EngineService, build_engine

VOCABULARY, END = 300, 257
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 5}, "age": {"type": "integer", "minimum": 0, "maximum": 120}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def schemas(byte_tokenizer, tmp_path_factory):
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    byte_tokenizer.save(str(file))
    return JsonSchemas(file, VOCABULARY, {END})


def allowed(constraint, answer):
    mask = np.empty(mask_words(VOCABULARY), dtype=np.int32)
    constraint.fill_mask(answer, mask)
    return bits(mask)


def bits(mask):
    return {token for token in range(VOCABULARY) if mask[token // 32] >> token % 32 & 1}


def test_only_what_fits_is_allowed_and_the_end_only_when_complete(schemas, byte_tokenizer):
    constraint = schemas.compile(json.dumps(PERSON))
    ids, seen = byte_tokenizer.encode('{"name": "Ann", "age": 7}').ids, []
    for number, token in enumerate(ids):
        seen.append(allowed(constraint, ids[:number]))
        assert token in seen[-1] and END not in seen[-1]
    assert seen[0] == set(byte_tokenizer.encode("{").ids)
    assert allowed(constraint, ids) == {END}


def test_every_sequence_has_a_constraint_of_its_own(schemas, byte_tokenizer):
    first, second = (schemas.compile('{"enum": ["a", "b"]}') for _ in range(2))
    allowed(first, byte_tokenizer.encode('"a').ids)
    assert allowed(second, []) == set(byte_tokenizer.encode('"').ids)


@pytest.mark.parametrize(
    "schema, text",
    [
        (PERSON, '{"name": "Ann", "age": 7}'),
        ({"type": "array", "items": {"enum": ["x", 3]}, "maxItems": 5}, '["x", 3]'),
        ({"type": "integer"}, "12"),
        ({"type": "boolean"}, "true"),
    ],
)
def test_what_may_follow_a_guess_is_what_may_follow_its_text(schemas, byte_tokenizer, schema, text):
    """Also behind the last token of a document, where nothing but the end is allowed."""
    ids = byte_tokenizer.encode(text).ids
    expected = [allowed(schemas.compile(json.dumps(schema)), ids[:number]) for number in range(1, len(ids) + 1)]
    ahead = schemas.compile(json.dumps(schema))
    assert allowed(ahead, ids[:1]) == expected[0]
    masks = np.empty((len(ids) + 2, mask_words(VOCABULARY)), dtype=np.int32)
    ahead.look_ahead([*ids[1:], END, 3, 3], masks)
    assert [bits(mask) for mask in masks[: len(ids) - 1]] == expected[1:]
    assert END in expected[-1] and bits(masks[-1]) == set(range(VOCABULARY)), "nobody chooses behind a wrong guess"


def test_white_space_has_an_end(schemas, byte_tokenizer):
    constraint = schemas.compile('{"type": "object"}')
    blank = byte_tokenizer.encode("\n").ids
    text = byte_tokenizer.encode("{").ids
    while set(blank) <= allowed(constraint, text):
        text = text + blank
        assert len(text) < 100


@pytest.mark.parametrize(
    "schema, reason",
    [
        ("nonsense", "expected ident"),
        ("[]", "object"),
        ('{"type": "objekt"}', "Invalid type: objekt"),
        ('{"type": "array", "uniqueItems": true}', "uniqueItems"),
        ('{"type": "string", "pattern": "("}', "unclosed group"),
        ('{"$ref": "https://example.invalid/schema"}', "example.invalid"),
        ('{"type": "integer", "minimum": 5, "maximum": 1}', "minimum (5) is greater"),
        ('{"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}', "refers to itself"),
        ('{"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]}', "not supported. Use anyOf"),
        ('{"items":' * 3000 + "{}" + "}" * 3000, "recursion limit"),
    ],
)
def test_what_can_not_be_compiled_is_refused_with_the_reason(schemas, schema, reason):
    with pytest.raises(Refused) as caught:
        schemas.compile(schema)
    refusal = caught.value.refusal
    assert refusal.code == "invalid_request"
    assert "response_format" in refusal.message and reason in refusal.message
    assert "<state>" not in refusal.message


def test_what_becomes_too_complex_later_is_an_error_of_its_sequence(schemas, byte_tokenizer):
    constraint = schemas.compile('{"type": "string", "pattern": "^(a?){500}a{500}$"}')
    with pytest.raises(ConstraintError, match=r"^\[SchemaTooComplex\] .*too complex to follow: .*too many expressions"):
        allowed(constraint, byte_tokenizer.encode('"').ids)


def test_without_an_end_token_nothing_can_end(byte_tokenizer, tmp_path):
    byte_tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(Refused, match="end-of-sequence"):
        JsonSchemas(tmp_path / "tokenizer.json", VOCABULARY, set()).compile('{"type": "object"}')


def test_the_tokenizer_is_read_while_nobody_is_answered(engine_config, monkeypatch):
    monkeypatch.setattr("localmodel.engine.service.QUIET_SECONDS", 0.02)
    read, began, open_tokenizer = threading.Event(), [], JsonSchemas._open_tokenizer

    def opened(self):
        began.append(self)
        try:
            return open_tokenizer(self)
        finally:
            read.set()

    monkeypatch.setattr(JsonSchemas, "_open_tokenizer", opened)
    service = EngineService(engine_config("llama"), log=lambda line: None, exit_process=lambda: None)
    service.start()
    try:
        assert read.wait(30)
        service._schemas.compile('{"type": "integer"}')
        assert len(began) == 1
    finally:
        service.stop()


def test_a_tokenizer_that_can_not_be_constrained_is_told_to_who_asks_for_it(tmp_path):
    schemas = JsonSchemas(tmp_path / "tokenizer.json", VOCABULARY, {END})
    schemas.prepare()
    (tmp_path / "tokenizer.json").write_text("{}")
    schemas.prepare()
    with pytest.raises(Refused, match="tokenizer can't be constrained"):
        schemas.compile('{"type": "integer"}')


def test_a_random_network_writes_valid_documents_beside_free_texts(engine_config, byte_tokenizer):
    model = load_model(engine_config("llama", max_batch_size=4))
    compiler = JsonSchemas(model.directory.tokenizer_file, model.network_config.vocabulary, model.directory.stop_tokens)
    engine, text = build_engine(model), json.dumps(PERSON)
    for seed in range(4):
        sampling = Sampling(temperature=0.7, seed=seed, json_schema=text, max_tokens=120)
        engine.add_request(seed, [1, 2, seed], sampling, constraint=compiler.compile(text))
    engine.add_request("free", [1, 2, 3], Sampling(temperature=0, max_tokens=20))
    alone = run_all(build_engine(model), {"free": ([1, 2, 3], Sampling(temperature=0, max_tokens=20))})
    answers, ends = {}, {}
    while any(engine.load()[:2]):
        for output in engine.step():
            answers.setdefault(output.key, []).append(output.token)
            ends[output.key] = output.finish
    assert answers["free"] == alone["free"]
    for seed in range(4):
        if ends[seed] == "stop":
            jsonschema.validate(json.loads(byte_tokenizer.decode(answers[seed])), PERSON)
        else:
            assert (ends[seed], len(answers[seed])) == ("length", 120)
    assert "stop" in [ends[seed] for seed in range(4)]


class Breaks:
    """Allows two tokens, then can't be followed."""

    def fill_mask(self, answer, mask):
        if len(answer) == 2:
            raise ConstraintError("too deep")
        mask[:] = -1


def test_a_constraint_that_breaks_ends_its_sequence_alone(engine_config):
    engine = build_engine(load_model(engine_config("llama", max_batch_size=4)))
    engine.add_request("breaks", [1, 2], Sampling(temperature=0, max_tokens=9), constraint=Breaks())
    engine.add_request("well", [1, 2], Sampling(temperature=0, max_tokens=9, ignore_eos=True))
    outputs = []
    while any(engine.load()[:2]):
        outputs += engine.step()
    assert [(o.token is None, o.finish, o.error) for o in outputs if o.key == "breaks"][2:] == [(True, "error", "too deep")]
    assert len([o for o in outputs if o.key == "well"]) == 9


# --- through the channel


def wait_for(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def submit(world, id_="s", schema='{"type": "object"}', **sampling):
    return world.ask(**world.document(id_, **{"max_tokens": 5, "json_schema": schema, **sampling}))


@pytest.fixture
def slow(world):
    """A compiler that waits until `go` is set."""
    go, seen = threading.Event(), []

    def compile_schema(schema):
        assert go.wait(60)
        seen.append(schema)
        if schema == "bad":
            raise Refused("invalid_request", "response_format: bad")
        return Breaks()

    world.channel._compiling._compile_schema = compile_schema
    yield go, seen
    go.set()
    world.channel.close()


def test_other_requests_do_not_wait_for_a_schema(world, slow):
    go, _ = slow
    events = world.connect()
    waiting, bad = submit(world), submit(world, "bad", schema="bad")
    assert world.submit("t")["accepted"]
    world.run(6)
    assert events.finish_of("t") == "length"
    assert not waiting.closed
    go.set()
    wait_for(lambda: waiting.closed and bad.closed)
    assert waiting.answer == {"accepted": ["s"], "refused": {}}
    assert bad.answer == {"code": "invalid_request", "message": "response_format: bad"}
    world.run(6)
    assert events.text_of("s") == "abcde"


def test_a_cancel_reaches_a_request_whose_schema_is_being_compiled(world, slow):
    go, seen = slow
    world.connect()
    waiting, repeated = submit(world), submit(world)
    other = submit(world, "other")
    world.ask(op="cancel", instance="a", ids=["s"])
    go.set()
    wait_for(lambda: waiting.closed and repeated.closed and other.closed)
    assert waiting.answer["code"] == repeated.answer["code"] == "failed"
    assert other.answer["accepted"]
    assert len(seen) == 3
    assert world.engine.load()[:2] == (0, 1)


def test_a_cancel_that_comes_while_a_compiled_request_begins_waits_for_it(world):
    """Else it finds the request nowhere, is confirmed, and the request begins."""
    compiling, order = Compiling(lambda schema: Breaks()), []

    def cancel():
        compiling.cancel([("a", "s")])
        order.append("cancelled")

    canceller = threading.Thread(target=cancel)

    def begin(constraint):
        canceller.start()
        canceller.join(0.1)
        order.append("begun")

    stream = world.stream()
    compiling.answer_later(("a", "s"), Sampling(json_schema="{}"), stream, begin)
    wait_for(lambda: len(order) == 2)
    compiling.close()
    assert order == ["begun", "cancelled"]


def test_a_repeated_submit_with_a_schema_starts_one_sequence(world, slow):
    go, _ = slow
    world.connect()
    both = [submit(world), submit(world)]
    go.set()
    wait_for(lambda: all(stream.closed for stream in both))
    assert [stream.answer["accepted"] for stream in both] == [["s"], ["s"]]
    assert world.engine.load()[:2] == (0, 1)


def test_at_the_end_nobody_waits_for_a_schema_in_vain(world, slow):
    go, _ = slow
    world.connect()
    begun, waiting = submit(world), submit(world, "next")
    world.channel.close()
    assert waiting.answer["code"] == submit(world, "late").answer["code"] == "failed"
    assert "another replica" in waiting.answer["message"]
    go.set()
    wait_for(lambda: begun.closed)


def test_a_sequence_with_a_schema_comes_alone(world):
    world.connect()
    document = world.document("s", json_schema="{}")
    document["sequences"] += world.document("t")["sequences"]
    assert world.ask(**document).answer["code"] == "invalid_request"
    assert world.engine.load() == (0, 0, 0)


def test_a_direct_client_and_a_text_without_end(world, slow):
    slow[0].set()
    stream = world.generate(text="hi", sampling={"max_tokens": 3, "json_schema": "{}"}, stream=False)
    wait_for(lambda: world.engine.load()[1] == 1)
    world.run(4)
    assert stream.answer["text"] == "abc"
    assert submit(world, ignore_eos=True).answer["code"] == "invalid_request"


def test_random_documents_fit_random_schemas(schemas, byte_tokenizer):
    """Whatever is drawn from the masks alone is a document that an independent validator accepts."""
    source = random.Random(11)
    for schema in ({"type": "array", "items": {"type": "boolean"}, "maxItems": 3}, PERSON, {"enum": [1, "x", None]}):
        constraint, answer = schemas.compile(json.dumps(schema)), []
        while (token := source.choice(sorted(allowed(constraint, answer)))) != END:
            answer.append(token)
            assert len(answer) < 2000
        jsonschema.validate(json.loads(byte_tokenizer.decode(answer)), schema)

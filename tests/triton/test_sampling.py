"""What a client may ask of the choice of tokens, with real weights through the real tritonserver."""

import json
import math
from collections import Counter

import jsonschema
import pytest

pytestmark = pytest.mark.triton

QUESTION = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
PERSON = "<|im_start|>user\nDescribe a person as JSON with name, age and hobbies.<|im_end|>\n<|im_start|>assistant\n"
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 1, "maximum": 120},
        "hobbies": {"type": "array", "items": {"enum": ["chess", "running", "music"]}, "minItems": 1, "maxItems": 2},
    },
    "required": ["name", "age", "hobbies"],
    "additionalProperties": False,
}


def test_an_answer_fits_its_schema_whatever_is_drawn(server):
    stream = server.events("schema")
    for number, temperature in enumerate((0, 1.0)):
        sampling = {"json_schema": json.dumps(SCHEMA), "max_tokens": 200, "temperature": temperature, "seed": number}
        answer = server.submit("schema", f"s{number}", PERSON, **sampling)
        assert answer == {"accepted": [f"s{number}"], "refused": {}}
    for number in range(2):
        assert stream.end(f"s{number}").finish_reason == "stop"
        jsonschema.validate(json.loads(stream.text(f"s{number}")), SCHEMA)
    server.submit("schema", "short", PERSON, json_schema='{"type": "object"}', max_tokens=3)
    assert stream.end("short").finish_reason == "length"
    assert stream.text("short").startswith("{")


def test_a_schema_that_can_not_be_used_is_refused(server):
    server.events("refused-schema")
    answer = server.submit("refused-schema", "s", PERSON, json_schema='{"type": "objekt"}')
    assert answer["code"] == "invalid_request"
    assert "response_format" in answer["message"] and "objekt" in answer["message"]


def test_logprobs_describe_the_text(server):
    stream = server.events("logprobs")
    server.submit("logprobs", "s", QUESTION, logprobs=3)
    stream.end("s")
    rows = [row for event in stream.events("s") for row in event.logprobs]
    assert server.tokenizer.decode([row.token for row in rows]) == stream.text("s")
    for row in rows:
        assert row.top[0] == (row.token, row.logprob), "greedy takes the likeliest"
        assert sum(math.exp(value) for _, value in row.top) <= 1.001
    direct = server.ask(
        "generate", text=QUESTION, stream=False, sampling={"temperature": 0, "max_tokens": 2, "logprobs": 0, "min_p": 0.1}
    )
    assert [row[0] for row in direct["logprobs"]] == [row.token for row in rows[:2]]


def test_penalties_and_biases_change_what_is_chosen(server):
    stream = server.events("penalties")
    more = {"max_tokens": 24, "ignore_eos": True}
    server.submit("penalties", "plain", "one one one one one one one one", **more)
    server.submit("penalties", "penalized", "one one one one one one one one", frequency_penalty=2, presence_penalty=2, **more)
    paris = server.tokenizer.encode(" Paris").ids
    server.submit("penalties", "biased", QUESTION, logit_bias={paris[0]: -100})
    for id_ in ("plain", "penalized", "biased"):
        stream.end(id_)
    plain, penalized = (Counter(server.tokenizer.encode(stream.text(id_)).ids) for id_ in ("plain", "penalized"))
    assert max(plain.values()) >= 2 * max(penalized.values()), "without penalties the small model repeats itself"
    assert " Paris" not in stream.text("biased")

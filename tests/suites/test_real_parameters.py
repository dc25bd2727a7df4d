"""OpenAI's parameters with the openai package, the real engine and real weights: what each of them does to the text."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest
from tokenizers import Tokenizer

from suites.live import PATIENCE, LiveGateway

pytestmark = pytest.mark.timeout(1500)

QUESTION: list[Any] = [{"role": "user", "content": "Name three cities of Japan, in Japanese."}]
CITY = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "million_people": {"type": "integer", "minimum": 0, "maximum": 50},
    },
    "required": ["city", "million_people"],
    "additionalProperties": False,
}


def sdk(gateway: LiveGateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE)


@pytest.fixture
def client(language_model: LiveGateway) -> Iterator[openai.OpenAI]:
    with sdk(language_model) as client:
        yield client


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    return client.chat.completions.create(**{"model": "smollm2", "messages": QUESTION, "max_tokens": 16, **fields})


def texts(answer: Any) -> list[str]:
    return [choice.message.content for choice in answer.choices]


def test_choices_with_a_seed_repeat_and_differ(client: openai.OpenAI) -> None:
    three = texts(ask(client, n=3, seed=7))
    assert three == texts(ask(client, n=3, seed=7)) and len(set(three)) == 3
    assert three[1:2] == texts(ask(client, seed=8)), "choice number 1 is what its own seed gives alone"
    streamed: dict[int, str] = {}
    for chunk in ask(client, n=3, seed=7, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] = streamed.get(choice.index, "") + (choice.delta.content or "")
    assert [streamed[index] for index in range(3)] == three


def test_log_probabilities_are_those_of_the_text(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "Repeat exactly: 日本 😀 Zoë"}]
    answer = ask(client, messages=messages, temperature=0, logprobs=True, top_logprobs=3, max_tokens=24)
    rows = answer.choices[0].logprobs.content
    assert b"".join(bytes(row.bytes) for row in rows) == answer.choices[0].message.content.encode()
    for row in rows:
        likeliest = [top.token for top in row.top_logprobs if top.logprob == row.top_logprobs[0].logprob]
        assert row.token in likeliest and row.logprob == row.top_logprobs[0].logprob <= 0, "greedy, but bfloat16 knows ties"
        assert row.top_logprobs[0].logprob >= row.top_logprobs[1].logprob >= row.top_logprobs[2].logprob
    old = client.completions.create(model="smollm2", prompt="Paris is", logprobs=2, temperature=0, max_tokens=8)
    text, logprobs = old.choices[0].text, old.choices[0].logprobs
    assert logprobs is not None and logprobs.tokens is not None and logprobs.text_offset is not None
    assert "".join(logprobs.tokens) == text
    assert all(text[at:].startswith(token) for at, token in zip(logprobs.text_offset, logprobs.tokens, strict=True))


def test_logit_bias_and_penalties_change_the_text(client: openai.OpenAI, model: Path) -> None:
    paris = Tokenizer.from_file(str(model / "tokenizer.json")).encode(" Paris", add_special_tokens=False).ids[0]
    fields: dict[str, Any] = {"model": "smollm2", "prompt": "The capital of France is", "temperature": 0, "max_tokens": 8}
    assert " Paris" in client.completions.create(**fields).choices[0].text
    assert " Paris" not in client.completions.create(**fields, logit_bias={str(paris): -100}).choices[0].text
    fields |= {"prompt": "one two one two one two one two", "max_tokens": 16}
    plain = client.completions.create(**fields).choices[0].text
    for name in ("presence_penalty", "frequency_penalty"):
        assert len(set(client.completions.create(**fields, **{name: 2}).choices[0].text.split())) > len(set(plain.split()))
    # So small a choice of tokens leaves the greedy one, whatever the temperature, where no two are equally likely.
    fields |= {"prompt": "The capital of France is", "max_tokens": 4}
    plain = client.completions.create(**fields).choices[0].text
    for only in ({"min_p": 1}, {"top_k": 1}):
        assert client.completions.create(**{**fields, "temperature": 2}, extra_body=only).choices[0].text == plain


def test_stop_and_echo(client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {"model": "smollm2", "prompt": "The capital of France is", "temperature": 0, "max_tokens": 8}
    answer = client.completions.create(**fields, stop=["aris"], echo=True).choices[0]
    assert (answer.text, answer.finish_reason) == ("The capital of France is P", "stop")


def test_answers_fit_their_schema(client: openai.OpenAI) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
    answer = ask(client, response_format=wanted, n=2, seed=1, max_tokens=120)
    for text in texts(answer):
        jsonschema.validate(json.loads(text), CITY)
    assert texts(ask(client, response_format={"type": "json_object"}, temperature=0))[0].lstrip().startswith("{")
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(?=x)y$"}}, "required": ["a"]}
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}})
    assert caught.value.param == "response_format"


def test_a_demanded_call_fits_its_function(with_tools: LiveGateway) -> None:
    tools = [
        {"type": "function", "function": {"name": "look_up", "description": "Looks a city up", "parameters": CITY}},
        {"type": "function", "function": {"name": "give_up", "parameters": {"type": "object", "properties": {}}}},
    ]
    with sdk(with_tools) as client:
        named = {"type": "function", "function": {"name": "look_up"}}
        answer = ask(client, tools=tools, tool_choice=named, temperature=0, max_tokens=120)
        (call,) = answer.choices[0].message.tool_calls
        assert call.function.name == "look_up" and answer.choices[0].finish_reason == "tool_calls"
        jsonschema.validate(json.loads(call.function.arguments), CITY)
        chunks = list(ask(client, tools=tools, tool_choice="required", temperature=0, stream=True, max_tokens=120))
        calls = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or []]
        assert len(calls) == 1 and calls[0].function.name in ("look_up", "give_up")
        json.loads(calls[0].function.arguments)
        assert ask(client, tools=tools, max_tokens=8).choices[0].finish_reason


def test_vectors_know_what_is_alike(embedding_model: LiveGateway) -> None:
    sentences = ["A cat sits on the mat.", "A kitten lies on the rug.", "The central bank raised interest rates."]
    with sdk(embedding_model) as client:
        packed = [row.embedding for row in client.embeddings.create(model="minilm", input=sentences).data]
        plain = client.embeddings.create(model="minilm", input=sentences, encoding_format="float")
        assert packed == [pytest.approx(row.embedding, abs=1e-6) for row in plain.data]
        cat, kitten, bank = packed
        assert sum(x * x for x in cat) == pytest.approx(1, abs=1e-3)
        alike, other = (sum(x * y for x, y in zip(cat, vector, strict=True)) for vector in (kitten, bank))
        assert alike > 0.4 > other
        with pytest.raises(openai.BadRequestError, match="embeddings"):
            client.chat.completions.create(model="minilm", messages=QUESTION)

"""What a soak asks the engine: questions of all kinds that it must answer, and requests that it must refuse."""

import json
import random
from typing import Any, NamedTuple

from tokenizers import Tokenizer

from bench.engine_clients import Instance
from gateway.conftest import ROOT

WINDOW = 512
"""Of the engine, in tokens."""
CATALOGUE = 48
SCHEMA = json.dumps({"type": "object", "properties": {"name": {"type": "string", "maxLength": 40}}, "required": ["name"]})


class Question(NamedTuple):
    prompt: list[int]
    sampling: dict[str, Any]

    def document(self, id_: str, **more: Any) -> dict[str, Any]:
        return {"id": id_, "prompt": self.prompt, "sampling": self.sampling, **more}


def make_questions(tokenizer: Tokenizer) -> list[Question]:
    """Pieces of this repository's pages, to be answered in all ways; every fourth has no seed."""
    source = random.Random(5)
    text = "\n".join(page.read_text() for page in sorted((ROOT / "docs").glob("*.md")))
    questions = []
    for number in range(CATALOGUE):
        start = source.randrange(len(text) - 2000)
        prompt = tokenizer.encode(text[start : start + 2000]).ids[: source.randint(4, 300)]
        sampling: dict[str, Any] = {"max_tokens": source.randint(4, 200), "ignore_eos": True, "temperature": 0}
        if number % 4:
            sampling |= {"seed": number, "temperature": source.choice([0, 0.8]), "top_p": source.choice([1, 0.9])}
        if number % 8 == 3:
            sampling |= {"stop": [" and", "\n"], "presence_penalty": 0.5}
        if number % 8 == 5:
            sampling |= {"json_schema": SCHEMA, "ignore_eos": False, "max_tokens": 60}
        questions.append(Question(prompt, sampling))
    return questions


def break_request(number: int, instance: Instance) -> dict[str, Any]:
    """A request that nobody may accept, each of another kind."""
    good = {"id": "broken", "prompt": [1, 2, 3], "sampling": {"max_tokens": 4}}
    submit = {"op": "submit", "instance": instance.name, "epoch": instance.epoch}
    broken: list[dict[str, Any]] = [
        {**submit, "sequences": [{**good, **change}]}
        for change in (
            {"prompt": []}, {"prompt": [10**9]}, {"prompt": [-1]}, {"prompt": [5] * WINDOW}, {"prompt": "words"}, {"id": 7},
            {"sampling": {"max_tokens": WINDOW}}, {"sampling": {"temperature": 9}}, {"sampling": {"stop": [""]}},
            {"sampling": {"json_schema": "{"}}, {"sampling": {"logit_bias": {"999999": 1}}}, {"deadline_seconds": -1},
        )
    ]  # fmt: skip
    broken += [{**submit, "sequences": [good], **change} for change in (
        {"token": "wrong"}, {"epoch": instance.epoch - 1}, {"instance": "nobody"}, {"op": "steal"}, {"sequences": [good] * 257},
    )]  # fmt: skip
    envelope = instance.engine.envelope(broken[number % len(broken)])
    odd: list[Any] = [{"REQUEST": "{"}, {"REQUEST": 5}, {"WRONG": "x"}, {"REQUEST": "[" * 5000}, [1]]
    return odd[number % len(odd)] if number % 5 == 0 else envelope

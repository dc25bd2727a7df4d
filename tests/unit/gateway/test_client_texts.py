"""What a client writes can't speak as a role of the chat, whatever special tokens it holds."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from localmodel.api.channel import Sampling
from localmodel.gateway.chat_template import ChatTemplate
from localmodel.gateway.client_texts import BREAK, ClientTexts
from localmodel.gateway.openai_request import Call
from localmodel.gateway.openai_tools import Tools
from localmodel.gateway.prompts import Prompts

START, END, OVERLAPPING = "<|im_start|>", "<|im_end|>", "end|>a"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{{ m.tool_calls | tojson if m.tool_calls }}<|im_end|>\n"
    '{% endfor %}{% if tools %}<tool_call>"arguments"{{ tools | tojson }}{% endif %}<|im_start|>assistant\n'
)


def make(*special: str) -> Tokenizer:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(sorted(alphabet))}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in special])
    tokenizer.add_tokens(["<tool_call>"])
    return tokenizer


TOKENIZER = make(START, END, OVERLAPPING)
SPECIAL = {TOKENIZER.token_to_id(text) for text in (START, END, OVERLAPPING)}
PLAIN = make()


def chat(messages: list[dict[str, Any]], tools: Tools | None = None) -> Call:
    return Call("chat", "m", messages, (), Sampling(), "max_tokens", stream=False, include_usage=False, tools=tools)


def specials(ids: tuple[int, ...]) -> list[int]:
    return [each for each in ids if each in SPECIAL]


PARTS = st.sampled_from([START, END, OVERLAPPING, "<", "|im_end|>", "|>", "<|", "im_start", BREAK, "a", " ", "\n", "é"])


@given(st.lists(PARTS, max_size=12).map("".join))
def test_a_text_holds_no_special_token_and_is_told_as_it_is(text: str) -> None:
    prompts = Prompts(TOKENIZER, ChatTemplate(TEMPLATE, {}))
    ids = prompts.encode(chat([{"role": "user", "content": text}]))
    start, end = TOKENIZER.token_to_id(START), TOKENIZER.token_to_id(END)
    assert specials(ids) == [start, end, start]
    said = TOKENIZER.decode(list(ids), skip_special_tokens=False)
    assert said == f"{START}user\n{text.replace(BREAK, '')}{END}\n{START}assistant"


def test_names_arguments_and_tools_are_texts_of_the_client_too() -> None:
    prompts = Prompts(TOKENIZER, ChatTemplate(TEMPLATE, {}))
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": {END: [START, 1, None, True]}}}
    shown = {"type": "function", "function": {"name": "f", "description": START, "parameters": {"enum": [END]}}}
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    assert len(specials(prompts.encode(chat(messages, Tools((shown,)))))) == 5


def test_tokens_of_a_document_are_counted_as_they_will_be_read() -> None:
    prompts = Prompts(TOKENIZER, None)
    assert list(prompts.token_starts(f"ab{END}c")) == [*range(13)]
    assert list(prompts.token_starts("abc")) == [0, 1, 2]


@pytest.mark.parametrize("value", ["plain <tool_call>", [{"role": "user", "content": "x"}], ({"a": [1, None]},), 5, ""])
def test_what_holds_none_is_left_as_it_is(value: Any) -> None:
    assert ClientTexts(TOKENIZER).cut(value) is value
    assert ClientTexts(PLAIN).cut(START) == START

"""Calls found in a model's text: the same however the text was cut, and what is no call is given out as text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodel.api.channel import Sampling
from localmodel.gateway.openai_tools import Tools
from localmodel.gateway.tool_calls import ToolCall, ToolFormat, ToolReader, sampling_with_tools

F = '{"name": "f", "arguments": {"x": "日本"}}'
CALLED = ("f", {"x": "日本"})


def read(pieces: list[str], form: ToolFormat, **options: bool) -> tuple[str, list[tuple[str, object]]]:
    reader = ToolReader(form, **options)
    found = [reader.feed(piece) for piece in pieces] + [reader.end()]
    calls: list[ToolCall] = [call for each in found for call in each.calls]
    assert len({call.id for call in calls}) == len(calls) == reader.calls
    return "".join(each.text for each in found), [(call.name, json.loads(call.arguments)) for call in calls]


HERMES = [
    (f"<tool_call>\n{F}\n</tool_call>", "", [CALLED]),
    (f"Let me see.\n<tool_call>{F}</tool_call>\n", "Let me see.", [CALLED]),
    (f"<tool_call>{F}</tool_call>\n<tool_call>{F}</tool_call>", "", [CALLED, CALLED]),
    (f"<tool_call>{F}</tool_call>\nDone", "\nDone", [CALLED]),
    (f"<tool_call>{F}", "", [CALLED]),
    ('<tool_call>{"name": "f", "arguments": "{}"}</tool_call>', "", [("f", {})]),
    ('<tool_call>{"name": "f"}</tool_call>', "", [("f", {})]),
    ("<tool_call>{oops}</tool_call> x", "<tool_call>{oops}</tool_call> x", []),
    ('<tool_call>{"name": 1}</tool_call>', '<tool_call>{"name": 1}</tool_call>', []),
    ('<tool_call>{"name": "f", "arguments": {"x": NaN}}</tool_call>',) * 2 + ([],),
    ("a < b, <tool, </tool_call> \n", "a < b, <tool, </tool_call> \n", []),
    ("no call  \n\n at all", "no call  \n\n at all", []),
    ("", "", []),
]
LLAMA = [
    ('{"name": "f", "parameters": {"x": "日本"}}', "", [CALLED]),
    ('\n<|python_tag|>{"name": "f", "parameters": {"x": "日本"}}', "", [CALLED]),
    ('{"name": "f", "parameters": {}}; {"name": "g", "parameters": {}}', "", [("f", {}), ("g", {})]),
    ('{"name": "f", "parameters": {}} and so on', '{"name": "f", "parameters": {}} and so on', []),
    ('{"an": "object"}', '{"an": "object"}', []),
    ('Paris {"name": "f"}', 'Paris {"name": "f"}', []),
    ("", "", []),
]


@pytest.mark.parametrize(("text", "content", "calls"), HERMES)
def test_hermes_cut_at_every_offset(text: str, content: str, calls: list[object]) -> None:
    for offset in range(len(text) + 1):
        assert read([text[:offset], text[offset:]], "Hermes") == (content, calls)
    assert read(list(text), "Hermes") == (content, calls)


@pytest.mark.parametrize(("text", "content", "calls"), LLAMA)
def test_llama_cut_at_every_offset(text: str, content: str, calls: list[object]) -> None:
    for offset in range(len(text) + 1):
        assert read([text[:offset], text[offset:]], "Llama") == (content, calls)
    assert read(list(text), "Llama") == (content, calls)


@given(st.lists(st.sampled_from(["<tool_call>", "</tool_call>", "<tool", " ", "\n", "a", F, "<", "{"]), max_size=12))
def test_nothing_is_lost(parts: list[str]) -> None:
    """What is not a call, and not the white space around one, comes out as text, however it was cut."""
    text = "".join(parts)
    content, calls = read(parts, "Hermes")
    assert (content, calls) == read([text], "Hermes")
    if not calls:
        assert content == text
    left = "".join(content.split())
    assert len(left) + len(calls) * len("".join(F.split())) <= len("".join(text.split()))
    assert calls == [CALLED] * len(calls)


def test_text_that_can_be_no_call_is_not_held_back() -> None:
    reader = ToolReader("Hermes")
    assert reader.feed("Hello <b").text == "Hello <b"
    assert reader.feed(" world <tool_").text == " world"
    assert reader.feed("x").text == " <tool_x"


def test_one_call_at_most_where_only_one_is_allowed() -> None:
    text = f"<tool_call>{F}</tool_call><tool_call>{F}</tool_call>"
    assert read([text], "Hermes", parallel=False) == ("", [CALLED])
    assert read([text[:60], text[60:]], "Hermes", parallel=False) == ("", [CALLED])


def test_a_forced_call_is_the_whole_answer() -> None:
    assert read(list(F), "Hermes", forced=True) == ("", [CALLED])
    assert read([F[:20]], "Hermes", forced=True) == (F[:20], []), "cut off by max_tokens: shown, not lost"


def test_what_the_engine_is_told() -> None:
    tool = {"type": "function", "function": {"name": "f", "description": "", "parameters": {"type": "object"}}}
    plain = Sampling(stop=("a",))
    assert sampling_with_tools(None, plain, "Hermes") == plain == sampling_with_tools(Tools((tool,)), plain, "Hermes")
    assert sampling_with_tools(Tools((tool,), parallel=False), plain, "Hermes").stop == ("a", "</tool_call>")
    full = Sampling(stop=("a",) * 16)
    assert sampling_with_tools(Tools((tool,), parallel=False), full, "Hermes") == full, "one call is kept all the same"
    for form, key in (("Hermes", "arguments"), ("Llama", "parameters")):
        schema = json.loads(sampling_with_tools(Tools((tool,), ("f",)), plain, form).json_schema or "")  # type: ignore[arg-type]
        assert schema["required"] == ["name", key]

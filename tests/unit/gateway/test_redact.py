"""Redaction: whatever names a person is taken out, wherever it stands and however it is written, and the rest stays."""

import json
import random
import time
from itertools import pairwise
from typing import Any

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.private_texts import calm_text, emails, escaped, numbers, tricky, tricky_ascii
from localmodel.gateway import bodies
from localmodel.gateway.bodies import AsText, Withheld, show
from localmodel.gateway.emails import EMAIL, Emails
from localmodel.gateway.identifiers import (
    RUN,
    DigitKind,
    Numbers,
    find_short_runs,
    is_bank_card,
    is_id_card,
    is_phone,
)
from localmodel.gateway.kept_answer import KeptAnswer
from localmodel.gateway.plain_characters import to_plain
from localmodel.gateway.redact import BadPattern, Redactor, TooCostly
from localmodel.gateway.sse import DONE, KEEP_ALIVE, frame

DIGIT_KINDS: tuple[DigitKind, ...] = ("Phone", "IDCard", "BankCard")
ALL = Redactor(("Email", "Phone", "IDCard", "BankCard"))
NONE = Redactor(())
calm = settings(deadline=None, max_examples=60)


def digits_of(text: str) -> str:
    return "".join(char for char in to_plain(text) if char.isdigit())


@calm
@given(calm_text, numbers(), calm_text)
def test_a_number_leaves_no_digit(before: str, number: str, after: str) -> None:
    assert digits_of(ALL.redact(before + number + after)) == ""


@calm
@given(calm_text, emails, st.sampled_from(["", " ", "，", "\n", "谢谢", ")"]))
def test_an_address_is_taken_out_and_nothing_behind_it(before: str, address: str, after: str) -> None:
    result = ALL.redact(f"{before} {address}{after}")
    assert result.endswith(f"[Email]{after}") and "@" not in result


@calm
@given(calm_text)
def test_other_text_stays(text: str) -> None:
    assert ALL.redact(text) == text


@calm
@given(st.lists(calm_text | numbers() | emails, max_size=8))
def test_together_is_as_each_by_itself(texts: list[str]) -> None:
    assert ALL.redact_all(texts) == [ALL.redact(text) for text in texts]


def never() -> None:
    """A search that may take as long as it likes."""


@settings(deadline=None, max_examples=1000)
@given(tricky | tricky_ascii)
def test_short_words_hold_the_addresses_that_re2_finds_in_the_whole_text(text: str) -> None:
    assert list(Emails().find(text, never)) == [match.span() for match in re2.finditer(EMAIL, text)]


@calm
@given(tricky, st.integers(100, 200))
def test_long_words_hold_the_same_addresses(text: str, length: int) -> None:
    text = f"{text}{'a' * length}@b.de{'c' * length} {text}"
    assert list(Emails().find(text, never)) == [match.span() for match in re2.finditer(EMAIL, text)]


@settings(deadline=None, max_examples=1000)
@given(tricky)
def test_runs_of_short_texts_are_those_that_re2_finds(text: str) -> None:
    assert list(find_short_runs(text)) == [match.span() for match in re2.finditer(RUN, text)]


@calm
@given(st.lists(calm_text | numbers() | tricky, max_size=8))
def test_long_texts_hold_the_same_numbers(texts: list[str]) -> None:
    text = " ; ".join(map(to_plain, texts))
    long = text + "\n" + "." * 20_000
    assert list(Numbers(DIGIT_KINDS).find(text, never)) == list(Numbers(DIGIT_KINDS).find(long, never))


@calm
@given(st.from_regex(r"[0-9]{7,12}X?", fullmatch=True), st.lists(st.integers(1, 9), min_size=1, max_size=4), st.booleans())
def test_what_is_not_looked_at_because_it_is_short_is_no_number(digits: str, lengths: list[int], fraction: bool) -> None:
    assert not is_id_card(digits)
    if len(digits) < 10:
        plain = digits.removesuffix("X")
        assert not is_phone(plain, lengths, plus=False, fraction=fraction) and not is_bank_card(plain)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("13800138000", "[Phone]"),
        ("+86 138-0013-8000", "[Phone]"),
        ("0086 13800138000", "[Phone]"),
        ("tel:8613800138000.", "tel:[Phone]."),
        ("(010) 6655-1234", "[Phone]"),
        ("0755-12345678", "[Phone]"),
        ("+44 20 7183 8750", "[Phone]"),
        ("(415) 555-2671", "[Phone]"),
        ("１３８００１３８０００", "[Phone]"),
        ("11010519491231002X", "[IDCard]"),
        ("11010519491231002x", "[IDCard]"),
        ("110105 19491231 0021", "[IDCard]"),
        ("130503670401001", "[IDCard]"),
        ("4111 1111 1111 1111", "[BankCard]"),
        ("6217-0000-1000-0000-003", "[BankCard]"),
        ("13800138000 13900139000", "[Phone] [Phone]"),
        ("zhang.san@bank.com.cn，", "[Email]，"),
        ("发到a@b.com谢谢", "发到[Email]谢谢"),
        ("a@例子.公司", "[Email]"),
        ("?mail=a%40b.com", "?mail=[Email]"),
        ("müller@straße.de", "[Email]"),
    ],
)
def test_forms(text: str, expected: str) -> None:
    assert ALL.redact(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "in 1789", "2024-11-26 04:46:55", "192.168.100.200", "v1.2.3.4", "3.14159265358979", "0.00123456789", "1732600000",
        "1234567", "4111 1111 1111 1112", "a@b", "@decorator", "1 2 3 4 5 6 7 8 9 10 11 12", "12,345,678,901",
    ],
)  # fmt: skip
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert ALL.redact(text) == text


def test_only_the_kinds_that_are_asked_for() -> None:
    text = "a@b.com 13800138000, 11010519491231002X, 4111111111111111"
    assert Redactor(("Email",)).redact(text) == "[Email] 13800138000, 11010519491231002X, 4111111111111111"
    assert Redactor(("BankCard",)).redact(text) == "a@b.com 13800138000, 11010519491231002X, [BankCard]"
    assert NONE.redact(text) == text


def test_own_patterns() -> None:
    own = Redactor(("Phone",), [r"EMP-\d{6}", r"(?i)^secret:.*$", "工号：[0-9]+"])
    assert own.redact("emp EMP-123456 and ＥＭＰ－１２３４５６") == "emp [Redacted] and [Redacted]"
    assert own.redact_all(["Secret: x", "no secret: y", "工号：12"]) == ["[Redacted]", "no secret: y", "[Redacted]"]
    assert own.redact("EMP-138001 13800138000") == "[Redacted] [Phone]"


def test_texts_are_searched_as_if_each_were_alone() -> None:
    for pattern in (r"\A[0-9]+", r"[0-9]+\z", r"(?-m)^[0-9]+", r"(?-m:[0-9]+$)"):
        assert Redactor((), [pattern]).redact_all(["a", "12", "34", "b"]) == ["a", "[Redacted]", "[Redacted]", "b"], pattern
    texts = ["a\0b", "13800138000", "\n\0\n", "c"]
    assert ALL.redact_all(texts) == ["a\0b", "[Phone]", "\n\0\n", "c"]
    assert Redactor((), [r"\n", r"[^a-z]"]).redact_all(["a", "b\n", "1"]) == ["a", "b[Redacted]", "[Redacted]"]


def test_a_pattern_that_reaches_over_texts_takes_nothing_of_a_neighbour() -> None:
    assert Redactor((), [r"(?s)BEGIN.*END"]).redact_all(["BEGIN", "x", "END", "BEGIN y END"]) == [
        "BEGIN",
        "x",
        "END",
        "[Redacted]",
    ]


@pytest.mark.parametrize(
    ("pattern", "said"), [("(abc", "missing"), ("(?=a)", "invalid perl operator"), ("a*", "empty text"), ("", "empty")]
)
def test_a_bad_pattern_is_refused_with_a_reason(pattern: str, said: str) -> None:
    with pytest.raises(BadPattern, match=said):
        Redactor((), [pattern])


def test_no_pattern_can_stall() -> None:
    began = time.monotonic()
    Redactor((), [r"(a+)+$", r"(a|aa)+b"]).redact("a" * 100_000 + "!")
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("text", ["cd" * 400_000, "1 " * 2_000_000])
def test_a_search_that_takes_too_long_is_given_up(text: str) -> None:
    with pytest.raises(TooCostly):
        Redactor(("Phone",), ["c.*x|d"], seconds=0.2).redact(text)


def shown(body: Any, redactor: Redactor = ALL, **options: Any) -> str:
    return show(body, redactor, **options).text


@calm
@given(numbers(), calm_text, st.integers(0, 1000))
def test_escapes_hide_nothing(number: str, around: str, seed: int) -> None:
    body = f'{{"messages": [{{"content": "{escaped(around + number, random.Random(seed))}"}}]}}'
    assert digits_of(shown(body.encode())) == ""
    assert number not in shown(body.encode()[:-1])


def test_numbers_keys_and_json_in_texts_are_searched() -> None:
    inner = json.dumps({"text": "13800138000", "deep": json.dumps({"n": 13800138000})})
    body = {"a": 13800138000, "13800138000": 1, "REQUEST": inner, "n": 5, "f": 13800138000.0, "logit_bias": {"50256": -100}}
    document = json.loads(shown(json.dumps(body).encode()))
    assert document["a"] == "[Phone]" and document["[Phone]"] == 1 and document["n"] == 5 and document["f"].startswith("[Phone]")
    assert json.loads(document["REQUEST"]) == {"text": "[Phone]", "deep": '{"n":"[Phone]"}'}
    assert document["logit_bias"] == {"50256": -100}


def test_texts_in_another_form_are_left_out() -> None:
    body = {"prompt": [[1, 2], [3]], "logprobs": {"content": [{"token": "138"}]}, "embedding": [0.1, 0.2], "input": [1, 2, 3]}
    assert json.loads(shown(body)) == {
        "prompt": ["[2 numbers left out]", "[1 numbers left out]"], "logprobs": "[left out]",
        "embedding": "[2 numbers left out]", "input": "[3 numbers left out]",
    }  # fmt: skip
    assert json.loads(shown({"logprobs": True})) == {"logprobs": True}


def test_what_is_no_json_is_searched_as_text() -> None:
    for body in (b"{broken 13800138000", b'{"a": "1380013\\u0038000', b"\xff\xfe 13800138000", b"[" * 5000 + b"13800138000"):
        assert "[Phone]" in shown(body)
    assert shown(AsText(b'{"a": "13800138000", "a": "x"}')) == '{"a": "[Phone]", "a": "x"}'


@calm
@given(numbers(), st.integers(0, 60))
def test_a_cut_leaves_no_half_of_a_number(number: str, offset: int) -> None:
    text = "x" * 40 + number + "y" * 40
    result = show(json.dumps({"a": text}).encode(), ALL, limit=offset)
    assert digits_of(result.text) == "" and len(result.text) <= offset
    assert len(result.text) + result.cut == len(shown(json.dumps({"a": text}).encode()))


def test_what_is_cut_is_counted() -> None:
    result = show(json.dumps({"a": "b" * 100_000}).encode(), ALL)
    assert len(result.text) == bodies.SHOWN_CHARACTERS and result.cut == 100_008 - bodies.SHOWN_CHARACTERS


def test_what_takes_too_long_is_withheld() -> None:
    with pytest.raises(Withheld):
        show(b'{"a": "' + b"cd" * 400_000 + b'"}', Redactor((), ["c.*x|d"], seconds=0.2))


def chat_stream(texts: list[str], index: int = 0) -> bytes:
    def chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return frame(json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}).encode())

    head = chunk({"role": "assistant", "content": ""})
    return head + b"".join(chunk({"content": text}) for text in texts) + KEEP_ALIVE + chunk({}, "stop") + DONE


def keep(data: bytes, cuts: list[int]) -> KeptAnswer:
    answer = KeptAnswer()
    places = sorted({0, *(cut % (len(data) + 1) for cut in cuts), len(data)})
    for start, end in pairwise(places):
        answer.add(data[start:end])
    return answer


def content(answer: KeptAnswer, index: int = 0) -> str:
    (found,) = [choice for choice in answer.content()["choices"] if choice["index"] == index]
    return found["message"]["content"]


@calm
@given(st.lists(st.text(max_size=6), max_size=12), st.lists(st.integers(0, 10_000), max_size=6))
def test_a_stream_is_put_together(texts: list[str], cuts: list[int]) -> None:
    texts = [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts]
    assert content(keep(chat_stream(texts), [cut or 1 for cut in cuts])) == "".join(texts)


@calm
@given(numbers(), st.lists(st.integers(0, 30), max_size=5), calm_text)
def test_a_number_that_came_in_pieces_is_found(number: str, cuts: list[int], around: str) -> None:
    text = around + number
    places = sorted({0, *(cut % (len(text) + 1) for cut in cuts), len(text)})
    pieces = [text[start:end] for start, end in pairwise(places)]
    assert digits_of(json.loads(shown(keep(chat_stream(pieces), []).content()))["choices"][0]["message"]["content"]) == ""


def test_long_streams_are_folded_as_they_come() -> None:
    texts = [f" wörd{n}" for n in range(5000)]
    answer = KeptAnswer()
    for part in chat_stream(texts).split(b"\n\n"):
        answer.add(part + b"\n\n")
    assert content(answer) == "".join(texts)


def test_choices_tools_usage_errors_and_completions_are_put_together() -> None:
    def event(document: dict[str, Any]) -> bytes:
        return frame(json.dumps(document).encode())

    def call(arguments: str, **more: Any) -> dict[str, Any]:
        tool = {"index": 0, "function": {"arguments": arguments}, **more}
        return {"choices": [{"index": 0, "delta": {"tool_calls": [tool]}, "finish_reason": None}]}

    data = (
        event(call('{"phone": "138', id="t1")) + event(call('00138000"}')) + event({"choices": [], "usage": {"total_tokens": 3}})
    )
    data += event({"error": {"message": "gone"}})
    document = keep(data, []).content()
    (tool,) = document["choices"][0]["message"]["tool_calls"]
    assert tool == {"index": 0, "function": {"arguments": '{"phone": "13800138000"}'}, "id": "t1"}
    assert document["usage"] == {"total_tokens": 3} and document["error"] == {"message": "gone"}
    assert "13800138000" not in shown(document)

    both = [(0, "138"), (1, "a"), (0, "00138000"), (1, "b")]
    data = b"".join(event({"choices": [{"index": index, "text": text, "finish_reason": None}]}) for index, text in both)
    assert [choice["text"] for choice in keep(data, []).content()["choices"]] == ["13800138000", "ab"]


def test_tritons_stream_is_put_together() -> None:
    events = [{"model_name": "llm", "RESPONSE": json.dumps({"text": text})} for text in ("138", "0013", "8000")]
    data = b"".join(frame(json.dumps(each).encode()) for each in events)
    assert "[Phone]" in shown(keep(data, []).content())


def test_a_stream_that_breaks_the_form_is_still_shown() -> None:
    document = keep(b"data: {nonsense 13800138000\n\n" + chat_stream(["a", "b"]), []).content()
    assert document["choices"][0]["message"]["content"] == "ab"
    assert "[Phone]" in shown(document)

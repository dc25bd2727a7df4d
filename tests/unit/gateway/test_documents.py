"""Which part of a chat is the document, what comes with each part, and what is left out of a chat that is too long."""

from typing import Any

import pytest

from localmodel.gateway.document import find_document, join_text, part_text, with_text
from localmodel.gateway.turns import longest_place, older_turns, without

LONG = "A sentence of the text. " * 40
LANG = "道可道，非常道。" * 80


def chat(*parts: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in parts]


@pytest.mark.parametrize(
    ("content", "head", "body", "tail"),
    [
        (f"Summarize this:\n\n{LONG}", "Summarize this:", LONG.strip(), ""),
        (f"{LONG}\n\nWhat is it about?", "", LONG, "What is it about?"),
        (f"请总结：\n\n{LANG}\n\n{LANG}\n\n用一句话。", "请总结：", f"{LANG}\n\n{LANG}", "用一句话。"),
        (f"请总结：\n{LANG}\n{LANG}", "请总结：", f"{LANG}\n{LANG}", ""),
        (LONG, "", LONG.strip(), ""),
        (f"{LONG}\n\n{LONG}", "", f"{LONG}\n\n{LONG}".strip(), ""),
        ("one\n\ntwo", "one", "two", ""),
        ("one\n\ntwo\n\nthree", "one", "two", "three"),
    ],
)
def test_the_first_and_the_last_short_paragraph_are_the_instruction(content: str, head: str, body: str, tail: str) -> None:
    document = find_document(chat(("system", "Be brief."), ("user", content)))
    assert document is not None
    assert (document.place, document.head, document.body, document.tail) == (1, head, body, tail)


def test_it_is_the_longest_message_of_the_user() -> None:
    messages = chat(("system", LONG * 9), ("user", LONG), ("assistant", LONG * 9), ("user", "And now?"))
    document = find_document(messages)
    assert document is not None and document.place == 1
    changed = with_text(messages, document, "TEXT")
    assert [m["content"] for m in changed] == [LONG * 9, "TEXT", LONG * 9, "And now?"]
    assert messages[1]["content"] == LONG, "the original stays"
    last = find_document(chat(("user", "a"), ("user", "b")))
    assert last is not None and last.place == 1
    assert find_document(chat(("system", LONG))) is None
    assert find_document(chat(("user", " \n"))) is None


def test_our_words_are_in_the_documents_language() -> None:
    english = find_document(chat(("user", f"Summarize:\n\n{LONG}")))
    chinese = find_document(chat(("user", f"Summarize:\n\n{LANG}")))
    assert english and chinese and chinese.chinese and not english.chinese
    assert part_text(english, "x", 2, 7) == "[Part 2 of 7 of the text]\nx"
    assert part_text(chinese, "x", 2, 7) == "【全文共7部分，以下是第2部分】\nx"
    for document in (english, chinese):
        joined = join_text(document, ["first", "second"])
        assert joined.index("first") < joined.index("second") and "2" in joined.split("\n")[0]
        whole = with_text(chat(("user", "old")), document, joined)[0]["content"]
        assert whole.startswith("Summarize:\n\n") and whole.endswith("second")


def test_turns_are_left_out_oldest_first() -> None:
    messages = chat(
        ("assistant", "Hello"), ("system", "s"), ("user", "1"), ("assistant", "a"), ("tool", "t"), ("user", "2"),
        ("system", "s2"), ("user", "3"), ("assistant", "prefill"),
    )  # fmt: skip
    turns = older_turns(messages)
    assert turns == [[0], [2, 3, 4], [5]]
    assert [m["content"] for m in without(messages, turns[:2])] == ["s", "2", "s2", "3", "prefill"]
    assert [m["content"] for m in without(messages, turns)] == ["s", "s2", "3", "prefill"]
    assert older_turns(chat(("system", "s"))) == [] and older_turns(chat(("user", "u"))) == []


def test_the_longest_message_is_shortened() -> None:
    assert longest_place(chat(("system", "sssss"), ("user", "uu"), ("tool", "ttt"))) == 2
    assert longest_place(chat(("system", "s"))) is None

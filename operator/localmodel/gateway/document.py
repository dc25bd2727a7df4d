"""Which part of a chat is the document that is too long, and the words around it when it is read in parts.

Pure. The document is the longest user message without its first and last paragraph, if these are short: people write what they
want before or after the text. All the rest of the chat is the instruction, and comes with each part unchanged.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LONGEST_INSTRUCTION = 400
"""Characters of a first or last paragraph that is taken for an instruction."""
_BLANK_LINE = re.compile(r"\n[ \t]*\n\s*")
_LINE = re.compile(r"\n\s*")
_CHINESE = re.compile(r"[\u3400-\u9fff]")


@dataclass(frozen=True)
class Document:
    place: int
    """Of its message in the chat."""
    head: str
    body: str
    tail: str
    chinese: bool
    """Then our own words are Chinese, too: a model goes on in the language that it reads last."""


def find_document(messages: Sequence[dict[str, Any]]) -> Document | None:
    """None if nobody says anything. Of messages of the same length the last one. Takes a while for megabytes."""
    places = [place for place, message in enumerate(messages) if message["role"] == "user" and message["content"].strip()]
    if not places:
        return None
    place = max(places, key=lambda each: (len(messages[each]["content"]), each))
    head, body, tail = _cut(messages[place]["content"])
    return Document(place, head, body, tail, len(_CHINESE.findall(body)) * 4 > len(body))


def _cut(text: str) -> tuple[str, str, str]:
    """Head, body and tail."""
    text = text.strip()
    border = _BLANK_LINE if _BLANK_LINE.search(text) else _LINE
    gaps = list(border.finditer(text))
    start, end = 0, len(text)
    if gaps and gaps[0].start() <= LONGEST_INSTRUCTION:
        start = gaps[0].end()
    if gaps and gaps[-1].start() > start and end - gaps[-1].end() <= LONGEST_INSTRUCTION:
        end = gaps[-1].start()
    return text[:start].rstrip(), text[start:end], text[end:].lstrip()


def with_text(messages: Sequence[dict[str, Any]], document: Document, text: str) -> list[dict[str, Any]]:
    """The chat with this text in the document's place."""
    whole = "\n\n".join(part for part in (document.head, text, document.tail) if part)
    return [{**message, "content": whole} if place == document.place else message for place, message in enumerate(messages)]


def part_text(document: Document, segment: str, number: int, count: int) -> str:
    """`number` from 1."""
    said = f"【全文共{count}部分，以下是第{number}部分】" if document.chinese else f"[Part {number} of {count} of the text]"
    return f"{said}\n{segment}"


def join_text(document: Document, answers: Sequence[str]) -> str:
    """What is read last: the answers for the parts, in the document's place."""
    count = len(answers)
    if document.chinese:
        told = f"【原文过长，已分为{count}部分分别回答。以下依次是各部分的回答。请据此给出对全文的一个完整回答，不要提及分段。】"
        return "\n\n".join([told, *(f"【第{number}部分】\n{answer}" for number, answer in enumerate(answers, 1))])
    told = (
        f"[The text was too long to be read at once. Below are the answers for its {count} parts, in order. "
        "Make one answer for the whole text of them, and do not mention the parts.]"
    )
    return "\n\n".join([told, *(f"[Part {number}]\n{answer}" for number, answer in enumerate(answers, 1))])

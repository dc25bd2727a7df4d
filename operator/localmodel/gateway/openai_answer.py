"""The bytes of an answer: chunks of a stream, or one body.

Pure. What is the same in every chunk of a request is encoded once. It keeps the invariants of a stream: the role only in
a choice's first chunk, one finish reason for each choice, the usage only if asked for and only before [DONE].
"""

import json
from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring_ascii as quote
from typing import Any, NamedTuple

from localmodel.api.channel import Usage
from localmodel.gateway import sse
from localmodel.gateway.choices import Piece
from localmodel.gateway.openai_choice import Choice, Delta, Whole
from localmodel.gateway.openai_request import Call

_MARK = "\x00"
_NOTHING: Mapping[str, int] = {}


class Heading(NamedTuple):
    """What every chunk of an answer says of it."""

    id: str
    created: int
    """Unix seconds."""
    fingerprint: str
    """Changes when the same request may get another text."""


def usage_document(usage: Usage, more: Mapping[str, int]) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        **more,
    }


def _envelope(call: Call, heading: Heading, chat_object: str) -> dict[str, Any]:
    return {
        "id": heading.id,
        "object": chat_object if call.endpoint == "chat" else "text_completion",
        "created": heading.created,
        "model": call.model,
        "system_fingerprint": heading.fingerprint,
    }


class Chunks:
    """Encodes one stream. ASCII only, so that no reader splits a line inside a text."""

    def __init__(
        self, call: Call, heading: Heading, choices: Sequence[Choice], echo: str = "", more_usage: Mapping[str, int] = _NOTHING
    ) -> None:
        """`echo` is the prompt, if the text of each choice is to begin with it. `more_usage`: members of ours."""
        self._more_usage = more_usage
        self._chat = call.endpoint == "chat"
        self._echo = echo
        self._choices = choices
        self._envelope = _envelope(call, heading, "chat.completion.chunk")
        self._usage_key = {"usage": None} if call.include_usage else {}
        self._include_usage = call.include_usage
        mark = json.dumps(_MARK).encode()
        self._frames = [tuple(self._text_chunk(index, _MARK).split(mark)) for index in range(len(choices))]
        """Head and tail of a chunk of plain text, for each choice."""
        self._calls = [0] * len(choices)

    def _chunk(self, index: int, body: dict[str, Any], finish: str | None, logprobs: dict[str, Any] | None = None) -> bytes:
        choice = {"index": index, **body, "logprobs": logprobs, "finish_reason": finish}
        return sse.frame(json.dumps({**self._envelope, "choices": [choice], **self._usage_key}).encode())

    def _text_chunk(self, index: int, text: str) -> bytes:
        return self._chunk(index, {"delta": {"content": text}} if self._chat else {"text": text}, None)

    def opening(self) -> bytes:
        """What precedes the first text: a chat names its role, a completion may repeat its prompt."""
        indices = range(len(self._choices))
        if self._chat:
            delta = {"delta": {"role": "assistant", "content": "", "refusal": None}}
            return b"".join([self._chunk(index, delta, None) for index in indices])
        return b"".join([self._text_chunk(index, self._echo) for index in indices]) if self._echo else b""

    def piece(self, piece: Piece) -> bytes:
        """Nothing for an empty piece; with the finish reason's chunk for the last one of a choice."""
        index, text, _, finish = piece
        choice = self._choices[index]
        if choice.plain:
            head, tail = self._frames[index]
            data = head + quote(text).encode() + tail if text else b""
        else:
            delta = choice.read(piece)
            data, finish = self._delta(index, delta), delta.finish_reason
        return data + self._chunk(index, {"delta": {}} if self._chat else {"text": ""}, finish) if finish else data

    def _delta(self, index: int, delta: Delta) -> bytes:
        body: dict[str, Any] = {"delta": {"content": delta.content}} if self._chat else {"text": delta.content}
        data = self._chunk(index, body, None, delta.logprobs) if delta.content or delta.logprobs else b""
        for call in delta.calls:
            numbered = {"index": self._calls[index], **call.document()}
            data += self._chunk(index, {"delta": {"tool_calls": [numbered]}}, None)
            self._calls[index] += 1
        return data

    def closing(self, usage: Usage) -> bytes:
        """Usage if asked for, and [DONE]."""
        if not self._include_usage:
            return sse.DONE
        document = {**self._envelope, "choices": [], "usage": usage_document(usage, self._more_usage)}
        return sse.frame(json.dumps(document).encode()) + sse.DONE


def unary(
    call: Call, heading: Heading, choices: Sequence[Whole], usage: Usage, echo: str = "", more_usage: Mapping[str, int] = _NOTHING
) -> bytes:
    document = {
        **_envelope(call, heading, "chat.completion"),
        "choices": [_choice(call, index, choice, echo) for index, choice in enumerate(choices)],
        "usage": usage_document(usage, more_usage),
    }
    return json.dumps(document).encode()


def _choice(call: Call, index: int, choice: Whole, echo: str) -> dict[str, Any]:
    document: dict[str, Any] = {"index": index, "logprobs": choice.logprobs, "finish_reason": choice.finish_reason}
    if call.endpoint != "chat":
        return {**document, "text": echo + choice.text}
    text = choice.text
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if choice.calls:
        message |= {"content": text or None, "tool_calls": [each.document() for each in choice.calls]}
    return {**document, "message": message}

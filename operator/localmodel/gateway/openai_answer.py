"""The bytes of an answer: chunks of a stream, or one body.

Pure. What is the same in every chunk of a request is encoded once. It keeps the invariants of a stream: the role only in
a choice's first chunk, one finish reason for each choice, the usage only if asked for and only before [DONE].
"""

import json
from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring_ascii as quote
from typing import Any, NamedTuple

from localmodel.api.events import Usage
from localmodel.gateway import errors, sse
from localmodel.gateway.openai_choice import Choice, Delta, Whole
from localmodel.gateway.openai_request import Call, blamed
from localmodel.gateway.pieces import Piece

_ROLE = '"delta": {"role": "assistant", "content": "", "refusal": null}'
_NO_DELTA, _NO_TEXT = '"delta": {}', '"text": ""'
_GOES_ON = ', "logprobs": null, "finish_reason": null'
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
        self._call = call
        self._heading = heading
        self._more_usage = more_usage
        self._chat = call.endpoint == "chat"
        self._echo = echo
        self._choices = choices
        self._envelope = json.dumps(_envelope(call, heading, "chat.completion.chunk"))[:-1]
        self._end = '}], "usage": null}' if call.include_usage else "}]}"
        opening, closing = ('"delta": {"content": ', "}") if self._chat else ('"text": ', "")
        self._frames = [
            (f'data: {self._envelope}, "choices": [{{"index": {index}, {opening}', f"{closing}{_GOES_ON}{self._end}\n\n")
            for index in range(len(choices))
        ]
        """What precedes and follows the text in a chunk of plain text, for each choice."""
        self._calls = [0] * len(choices)
        self.plain = len(choices) == 1 and choices[0].plain
        """`text` may be used."""

    def text(self, text: str) -> bytes:
        """A piece in the midst of the only choice."""
        return self._text_chunk(0, text)

    def _chunk(self, index: int, body: str, finish: str | None, logprobs: dict[str, Any] | None = None) -> bytes:
        """`body`: the members of the choice that say something, as JSON."""
        rest = _GOES_ON
        if finish or logprobs:
            shown = json.dumps(logprobs) if logprobs else "null"
            rest = f', "logprobs": {shown}, "finish_reason": {quote(finish) if finish else "null"}'
        return sse.frame(f'{self._envelope}, "choices": [{{"index": {index}, {body}{rest}{self._end}'.encode())

    def _text_chunk(self, index: int, text: str) -> bytes:
        head, tail = self._frames[index]
        return f"{head}{quote(text)}{tail}".encode()

    def opening(self) -> bytes:
        """What precedes the first text: a chat names its role, a completion may repeat its prompt."""
        indices = range(len(self._choices))
        if self._chat:
            return b"".join([self._chunk(index, _ROLE, None) for index in indices])
        return b"".join([self._text_chunk(index, self._echo) for index in indices]) if self._echo else b""

    def piece(self, piece: Piece) -> bytes:
        """Nothing for an empty piece; with the finish reason's chunk for the last one of a choice."""
        index, text, _, finish = piece
        choice = self._choices[index]
        if choice.plain:
            data = self._text_chunk(index, text) if text else b""
        else:
            delta = choice.read(piece)
            data, finish = self._delta(index, delta), delta.finish_reason
        return data + self._chunk(index, _NO_DELTA if self._chat else _NO_TEXT, finish) if finish else data

    def _delta(self, index: int, delta: Delta) -> bytes:
        text = quote(delta.content)
        body = f'"delta": {{"content": {text}}}' if self._chat else f'"text": {text}'
        data = self._chunk(index, body, None, delta.logprobs) if delta.content or delta.logprobs else b""
        for call in delta.calls:
            numbered = {"index": self._calls[index], **call.document()}
            data += self._chunk(index, f'"delta": {{"tool_calls": [{json.dumps(numbered)}]}}', None)
            self._calls[index] += 1
        return data

    def closing(self, usage: Usage) -> bytes:
        """Usage if asked for, and [DONE]."""
        if not self._call.include_usage:
            return sse.DONE
        shown = json.dumps(usage_document(usage, self._more_usage))
        return sse.frame(f'{self._envelope}, "choices": [], "usage": {shown}}}'.encode()) + sse.DONE

    def blame(self, error: errors.ApiError) -> errors.ApiError:
        """With the field that it is about, for the event that ends a stream."""
        return blamed(error, self._call)

    def document(self, pieces: Sequence[Piece], usage: Usage | None) -> dict[str, Any]:
        """The one document that these pieces of a stream amount to; the usage if it was sent."""
        wholes = []
        for index, choice in enumerate(self._choices):
            wholes.append(Whole(choice.again()))
            own = [piece for piece in pieces if piece.choice == index]
            if choice.plain and own:
                own = [Piece(index, "".join([piece.text for piece in own]), (), own[-1].finish_reason)]
            for piece in own:
                wholes[index].add(piece)
        document = _document(self._call, self._heading, wholes, self._echo, "chat.completion.chunk")
        if usage is not None and self._call.include_usage:
            document["usage"] = usage_document(usage, self._more_usage)
        return document


def whole_document(
    call: Call, heading: Heading, choices: Sequence[Whole], usage: Usage, echo: str = "", more_usage: Mapping[str, int] = _NOTHING
) -> dict[str, Any]:
    document = _document(call, heading, choices, echo, "chat.completion")
    document["usage"] = usage_document(usage, more_usage)
    return document


def _document(call: Call, heading: Heading, choices: Sequence[Whole], echo: str, chat_object: str) -> dict[str, Any]:
    envelope = _envelope(call, heading, chat_object)
    return {**envelope, "choices": [_choice(call, index, choice, echo) for index, choice in enumerate(choices)]}


def _choice(call: Call, index: int, choice: Whole, echo: str) -> dict[str, Any]:
    document: dict[str, Any] = {"index": index, "logprobs": choice.logprobs, "finish_reason": choice.finish_reason}
    if call.endpoint != "chat":
        return {**document, "text": echo + choice.text}
    text = choice.text
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if choice.calls:
        message |= {"content": text or None, "tool_calls": [each.document() for each in choice.calls]}
    return {**document, "message": message}

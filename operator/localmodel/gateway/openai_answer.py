"""The bytes of an answer: chunks of a stream, or one body.

Pure. What is the same in every chunk of a request is encoded once. It keeps the invariants of a stream: the role only in
the first chunk, one finish reason, the usage only if asked for and only before [DONE].
"""

import json
from json.encoder import encode_basestring_ascii as quote
from typing import Any

from localmodel.api.channel import Usage
from localmodel.gateway import sse
from localmodel.gateway.openai_request import Call

_MARK = "\x00"


def usage_document(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


class Chunks:
    """Encodes one stream. ASCII only, so that no reader splits a line inside a text."""

    def __init__(self, call: Call, answer_id: str, created: int) -> None:
        self._chat = call.endpoint == "chat"
        self._envelope: dict[str, Any] = {
            "id": answer_id,
            "object": "chat.completion.chunk" if self._chat else "text_completion",
            "created": created,
            "model": call.model,
        }
        self._usage_key = {"usage": None} if call.include_usage else {}
        self._include_usage = call.include_usage
        self._head, self._tail = self._choice(_MARK, None).split(json.dumps(_MARK).encode())

    def _choice(self, text: str | None, finish_reason: str | None, **delta: Any) -> bytes:
        content: dict[str, Any] = {"text": text or ""}
        if self._chat:
            content = {"delta": delta if text is None else {**delta, "content": text}}
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": finish_reason}
        return sse.frame(json.dumps({**self._envelope, "choices": [choice], **self._usage_key}).encode())

    def opening(self) -> bytes:
        """What precedes the first text: a chat names its role."""
        return self._choice("", None, role="assistant", refusal=None) if self._chat else b""

    def text(self, text: str) -> bytes:
        return self._head + quote(text).encode() + self._tail

    def closing(self, finish_reason: str, usage: Usage) -> bytes:
        """Finish reason, usage if asked for, and [DONE]."""
        end = self._choice(None, finish_reason)
        if self._include_usage:
            document = {**self._envelope, "choices": [], "usage": usage_document(usage)}
            end += sse.frame(json.dumps(document).encode())
        return end + sse.DONE


def unary(call: Call, answer_id: str, created: int, text: str, finish_reason: str, usage: Usage) -> bytes:
    choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": finish_reason}
    if call.endpoint == "chat":
        choice["message"] = {"role": "assistant", "content": text, "refusal": None}
    else:
        choice["text"] = text
    document = {
        "id": answer_id,
        "object": "chat.completion" if call.endpoint == "chat" else "text_completion",
        "created": created,
        "model": call.model,
        "choices": [choice],
        "usage": usage_document(usage),
    }
    return json.dumps(document).encode()

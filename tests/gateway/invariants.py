"""What must hold for every stream a client ever gets; every test that reads a stream checks it."""

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Stream:
    """One stream as a client saw it."""

    text: str = ""
    finish_reason: str | None = None
    usage: dict[str, int] | None = None
    error: dict[str, Any] | None = None
    done: bool = False
    comments: int = 0
    chunks: list[dict[str, Any]] = field(default_factory=list)


def check_stream(raw: bytes, *, chat: bool = True, usage: bool = False) -> Stream:
    """Parses a whole SSE body and asserts the invariants; a stream must end with [DONE] or an error, never silently."""
    assert raw.endswith(b"\n\n"), raw[-80:]
    stream = Stream()
    for event in raw.decode("ascii").split("\n\n")[:-1]:
        if event.startswith(":"):
            stream.comments += 1
            assert stream.chunks, "a comment before the first chunk"
            continue
        assert event.startswith("data: "), event
        assert "\n" not in event
        assert not stream.done, "something after [DONE]"
        assert stream.error is None, "something after an error"
        payload = event.removeprefix("data: ")
        if payload == "[DONE]":
            stream.done = True
            continue
        document = json.loads(payload)
        if "error" in document:
            stream.error = document["error"]
            assert set(document) == {"error"}
            assert set(stream.error) == {"message", "type", "param", "code"}
            continue
        stream.chunks.append(document)
        _check_chunk(stream, document, chat=chat, usage=usage)
    assert stream.done != (stream.error is not None), "either [DONE] or an error"
    if stream.done:
        assert stream.finish_reason is not None
        assert (stream.usage is not None) == usage
        if usage:
            assert stream.chunks[-1]["choices"] == []
    return stream


def _check_chunk(stream: Stream, document: dict[str, Any], *, chat: bool, usage: bool) -> None:
    first = stream.chunks[0]
    for key in ("id", "object", "created", "model"):
        assert document[key] == first[key], key
    assert document["object"] == ("chat.completion.chunk" if chat else "text_completion")
    assert ("usage" in document) == usage
    assert stream.usage is None, "a chunk after the usage"
    if not document["choices"]:
        assert usage
        assert stream.finish_reason is not None, "the usage before the finish reason"
        stream.usage = document["usage"]
        assert stream.usage["total_tokens"] == stream.usage["prompt_tokens"] + stream.usage["completion_tokens"]
        return
    if usage:
        assert document["usage"] is None
    (choice,) = document["choices"]
    assert choice["index"] == 0
    assert stream.finish_reason is None, "a chunk after the finish reason"
    if chat:
        assert ("role" in choice["delta"]) == (document is first), "the role belongs to the first chunk only"
        stream.text += choice["delta"].get("content") or ""
    else:
        stream.text += choice["text"]
    stream.finish_reason = choice["finish_reason"]

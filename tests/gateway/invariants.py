"""What must hold for every stream a client ever gets; every test that reads a stream checks it."""

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Stream:
    """One stream as a client saw it."""

    text: str = ""
    """Of the first choice."""
    finish_reason: str | None = None
    texts: dict[int, str] = field(default_factory=dict)
    finish_reasons: dict[int, str] = field(default_factory=dict)
    tool_calls: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    logprobs: dict[int, list[Any]] = field(default_factory=dict)
    usage: dict[str, int] | None = None
    error: dict[str, Any] | None = None
    done: bool = False
    comments: int = 0
    chunks: list[dict[str, Any]] = field(default_factory=list)


def check_stream(raw: bytes, *, chat: bool = True, usage: bool = False, choices: int = 1) -> Stream:
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
        assert set(stream.finish_reasons) == set(range(choices)), "one finish reason for each choice"
        assert (stream.usage is not None) == usage
        if usage:
            assert stream.chunks[-1]["choices"] == []
    return stream


def _check_chunk(stream: Stream, document: dict[str, Any], *, chat: bool, usage: bool) -> None:
    first = stream.chunks[0]
    for key in ("id", "object", "created", "model", "system_fingerprint"):
        assert document[key] == first[key], key
    assert document["object"] == ("chat.completion.chunk" if chat else "text_completion")
    assert ("usage" in document) == usage
    assert stream.usage is None, "a chunk after the usage"
    if not document["choices"]:
        assert usage
        assert stream.finish_reasons, "the usage before the finish reason"
        stream.usage = document["usage"]
        assert stream.usage["total_tokens"] == stream.usage["prompt_tokens"] + stream.usage["completion_tokens"]
        return
    if usage:
        assert document["usage"] is None
    (choice,) = document["choices"]
    index = choice["index"]
    assert index not in stream.finish_reasons, "a chunk after the finish reason"
    seen = any(index == c["index"] for chunk in stream.chunks[:-1] for c in chunk["choices"])
    if chat:
        assert ("role" in choice["delta"]) == (not seen), "the role belongs to a choice's first chunk only"
        text = choice["delta"].get("content") or ""
        for call in choice["delta"].get("tool_calls", []):
            calls = stream.tool_calls.setdefault(index, [])
            assert call["index"] == len(calls), "a tool call out of order"
            calls.append(call)
    else:
        text = choice["text"]
    stream.texts[index] = stream.texts.get(index, "") + text
    if choice["logprobs"] is not None:
        rows = choice["logprobs"]["content"] if chat else choice["logprobs"]["tokens"]
        stream.logprobs.setdefault(index, []).extend(rows)
    if choice["finish_reason"] is not None:
        stream.finish_reasons[index] = choice["finish_reason"]
    stream.text = stream.texts.get(0, "")
    stream.finish_reason = stream.finish_reasons.get(0)

"""Where fuzzing starts: what the tests of attacks send, ordinary requests of each kind, and what once found a fault."""

import json
from collections.abc import Iterator
from pathlib import Path

from fuzz.target import CHAT, PATHS
from gateway.fake_triton import envelope
from gateway.test_attacks import JSON, STATUSES
from gateway.wire import chat_bytes, request

CORPUS = Path(__file__).parent / "corpus"
_LONGEST = 4096

BODIES = (
    CHAT,
    {**CHAT, "stream": True, "stream_options": {"include_usage": True}, "stop": ["a", "b"], "seed": 1, "temperature": 0.5},
    {**CHAT, "messages": [{"role": "system", "content": [{"type": "text", "text": "é😀"}]}], "top_p": 0.1, "user": "x"},
    {"model": "tiny", "prompt": "What is", "max_tokens": 2, "echo": True},
    {"model": "tiny", "prompt": [1, 2, 3], "stream": True},
    {"model": "tiny", "input": ["What", "is"], "encoding_format": "base64"},
    {"REQUEST": json.dumps({"text": "What", "sampling": {"max_tokens": 3}})},
    {"REQUEST": '{"op": "cancel", "ids": ["s1"]}'},
)
EVENTS = (
    [1, 0.0, False, [["s1", "The", 1, None, None, None]]],
    [2, 0.5, True, [["s1", "é\u2028", 0, "stop", [3, 4], None], ["s2", "", 0, "error", None, "why"]]],
    {"code": "stale_epoch", "message": "renewed"},
)
TARGETS = (
    "GET /v1/models",
    "GET /v1/models/tiny",
    "GET /v2/health/ready",
    "GET /",
    "OPTIONS *",
    "HEAD /v1/models",
    "DELETE /v2/models/llm",
)


def seeds() -> Iterator[tuple[str, bytes]]:
    """A name, and an input for `Target.run`."""
    for name, (data, _) in STATUSES.items():
        if len(data) <= _LONGEST:
            yield name, b"\x00\x00" + data
            yield f"{name}, byte by byte", b"\x03\x10" + data
    for name, body in JSON.items():
        if len(body) <= _LONGEST:
            yield name, b"\x07\x00" + body
    for number, fields in enumerate(BODIES):
        body = json.dumps(fields).encode()
        yield f"JSON {number}", b"\x07\x00" + body
        for how, path in enumerate(PATHS):
            yield f"{path} {number}", bytes([4, how]) + body
            yield f"{path} {number} and away", bytes([4, how + 5 | 32]) + body
    for line in TARGETS:
        yield line, b"\x00\x00" + f"{line} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode() * 2
    yield "pipelined", b"\x00\x00" + chat_bytes(CHAT) * 3
    yield "pipelined and away", b"\x00\xa1" + chat_bytes(CHAT) * 3
    yield "waits to be asked", b"\x00\x00" + request(PATHS[0], json.dumps(CHAT).encode(), "expect: 100-continue")
    for number, event in enumerate(EVENTS):
        yield f"events {number}", b"\x06\x03data: " + envelope(event) + b"\r\n\r\n: x\n\ndata: 1\ndata: 2\n\n"
    for file in sorted(CORPUS.glob("*.bin")):
        yield file.name, file.read_bytes()

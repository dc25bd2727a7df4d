"""Bytes in and bytes out: however Triton's bytes are cut, clients get the same stream, and its invariants hold."""

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.invariants import check_stream
from localmodel.api.channel import RESPONSE, EventBatch, Sampling, SequenceEvent, Usage, encode_batch
from localmodel.gateway import sse
from localmodel.gateway.events import parse_batch
from localmodel.gateway.openai_answer import Chunks, unary
from localmodel.gateway.openai_request import Call, Endpoint


def call(endpoint: Endpoint = "chat", *, usage: bool = False) -> Call:
    return Call(endpoint, "tiny", [], (), Sampling(), "max_tokens", True, usage)


def upstream(texts: list[str]) -> bytes:
    """What Triton sends for these texts; the characters are not escaped, so that cuts can split them."""
    data = b""
    for number, text in enumerate(texts):
        batch = EventBatch(number + 1, (SequenceEvent("s1", text, 1),))
        response = json.dumps(encode_batch(batch), ensure_ascii=False)
        data += b"data: " + json.dumps({RESPONSE: response}, ensure_ascii=False).encode() + b"\n\n"
    return data


def read(chunks: list[bytes]) -> list[str]:
    decoder = sse.Decoder()
    payloads = [payload for chunk in chunks for payload in decoder.feed(chunk)]
    return [event.text for payload in payloads for event in parse_batch(payload).events]


def test_cut_at_every_offset() -> None:
    texts = ["Zoë", "日本", "😀", "\r\n", "\u2028", '"\\', "data: x\n\n", ""]
    data = upstream(texts)
    for offset in range(len(data) + 1):
        assert read([data[:offset], data[offset:]]) == texts
    assert read([data[i : i + 1] for i in range(len(data))]) == texts
    assert read([data.replace(b"\n", b"\r\n")]) == texts


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=8), st.data())
def test_any_text_cut_anywhere(texts: list[str], data: st.DataObject) -> None:
    raw = upstream(texts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    edges = [0, *cuts, len(raw)]
    assert read([raw[a:b] for a, b in pairwise(edges)]) == texts


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=8), st.booleans(), st.booleans())
def test_every_encoded_stream_keeps_the_invariants(texts: list[str], chat: bool, usage: bool) -> None:
    chunks = Chunks(call("chat" if chat else "completions", usage=usage), "id-1", 1)
    raw = chunks.opening() + b"".join(chunks.text(text) for text in texts) + chunks.closing("length", Usage(3, 4))
    stream = check_stream(raw, chat=chat, usage=usage)
    assert stream.done and stream.text == "".join(texts) and stream.finish_reason == "length"
    if usage:
        assert stream.usage == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def test_the_checker_can_fail() -> None:
    chunks = Chunks(call(), "id-1", 1)
    whole = chunks.opening() + chunks.text("a") + chunks.closing("stop", Usage(1, 1))
    end = whole.removeprefix(chunks.opening() + chunks.text("a"))
    broken = [
        whole.removesuffix(sse.DONE),
        whole + sse.DONE,
        chunks.opening() * 2 + chunks.text("a") + end,
        chunks.text("a") + end,
        whole.removesuffix(sse.DONE) + chunks.text("b") + sse.DONE,
        whole.replace(b"id-1", b"id-2", 1),
        chunks.opening() + sse.DONE,
        whole.removesuffix(sse.DONE) + b'data: {"error": {"message": "x"}}\n\n',
    ]
    for raw in broken:
        try:
            check_stream(raw)
        except AssertionError:
            continue
        raise RuntimeError(raw)


def test_unary_bodies_have_the_schema_keys() -> None:
    chat = json.loads(unary(call(), "id", 1, "Paris", "stop", Usage(1, 2)))
    (choice,) = chat["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Paris", "refusal": None}
    assert choice["logprobs"] is None and choice["finish_reason"] == "stop" and chat["object"] == "chat.completion"
    text = json.loads(unary(call("completions"), "id", 1, "Paris", "stop", Usage(1, 2)))
    assert text["choices"][0]["text"] == "Paris" and text["object"] == "text_completion"


def test_an_endless_event_is_refused() -> None:
    decoder = sse.Decoder(limit=100)
    try:
        for _ in range(100):
            decoder.feed(b"data: aaaaaaaaaa")
    except sse.TooLong:
        return
    raise AssertionError("it grew without limit")

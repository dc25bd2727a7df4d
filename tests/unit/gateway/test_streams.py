"""Bytes in and bytes out: however Triton's bytes are cut, clients get the same stream, and its invariants hold."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.invariants import check_stream
from localmodel.api.channel import RESPONSE, Sampling
from localmodel.api.events import EventBatch, SequenceEvent, Usage, encode_batch
from localmodel.gateway import sse
from localmodel.gateway.backend_errors import BackendGarbage
from localmodel.gateway.kept_answer import KeptAnswer, KeptPieces
from localmodel.gateway.openai_answer import Chunks, Heading, whole_document
from localmodel.gateway.openai_choice import Choice, Whole
from localmodel.gateway.openai_request import Call, Endpoint
from localmodel.gateway.pieces import Piece
from localmodel.gateway.wire import parse_batch

HEADING = Heading("id-1", 1, "fp_1")


def call(endpoint: Endpoint = "chat", *, usage: bool = False) -> Call:
    return Call(endpoint, "tiny", [], (), Sampling(), "max_tokens", True, usage)


def chunks_of(call: Call, choices: int = 1, echo: str = "") -> Chunks:
    return Chunks(call, HEADING, [Choice(call, None, None) for _ in range(choices)], echo)


def whole(call: Call, *pieces: Piece) -> Whole:
    gathered = Whole(Choice(call, None, None))
    for piece in pieces:
        gathered.add(piece)
    return gathered


def upstream(texts: list[str]) -> bytes:
    """What Triton sends for these texts; the characters are not escaped, so that cuts can split them."""
    data = b""
    for number, text in enumerate(texts):
        batch = EventBatch(number + 1, 0.0, False, (SequenceEvent("s1", text, 1),))
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


@pytest.mark.parametrize(
    "logprobs",
    [
        '[["a", -1, []]]', "[[1, null, []]]", "[[1, -Infinity, []]]", "[[1, NaN, []]]", '[[1, -1, [["a", -1]]]]',
        "[[1, -1, [[1, true]]]]", "[[1, -1]]", "[1]", "1",
    ],
)  # fmt: skip
def test_log_probabilities_of_a_wrong_type_reach_nobody(logprobs: str) -> None:
    def batch(rows: str) -> EventBatch:
        response = f'[1, 0, false, [["s1", "a", 1, null, null, null, {rows}]]]'
        return parse_batch(json.dumps({RESPONSE: response}).encode())

    with pytest.raises(BackendGarbage):
        batch(logprobs)
    assert batch("[[1, -1, [[1, -0.5]]]]").events[0].logprobs == ((1, -1, ((1, -0.5),)),)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=8), st.data())
def test_any_text_cut_anywhere(texts: list[str], data: st.DataObject) -> None:
    raw = upstream(texts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    edges = [0, *cuts, len(raw)]
    assert read([raw[a:b] for a, b in pairwise(edges)]) == texts


TEXTS = st.lists(st.tuples(st.integers(0, 2), st.text(st.characters(exclude_categories=["Cs"]), min_size=1)), max_size=8)


@given(TEXTS, st.booleans(), st.booleans(), st.text(max_size=3))
def test_every_encoded_stream_keeps_the_invariants(texts: list[tuple[int, str]], chat: bool, usage: bool, echo: str) -> None:
    asked = call("chat" if chat else "completions", usage=usage)
    chunks = chunks_of(asked, 3, "" if chat else echo)
    raw = chunks.opening() + b"".join(chunks.piece(Piece(choice, text)) for choice, text in texts)
    raw += b"".join(chunks.piece(Piece(choice, "", (), "length")) for choice in (2, 0, 1)) + chunks.closing(Usage(3, 4))
    stream = check_stream(raw, chat=chat, usage=usage, choices=3)
    assert stream.done and set(stream.finish_reasons.values()) == {"length"}
    for choice in range(3):
        assert stream.texts[choice] == ("" if chat else echo) + "".join(text for number, text in texts if number == choice)
    if usage:
        assert stream.usage == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def test_the_checker_can_fail() -> None:
    chunks = chunks_of(call())
    opening, text = chunks.opening(), chunks.piece(Piece(0, "a"))
    end = chunks.piece(Piece(0, "", (), "stop")) + chunks.closing(Usage(1, 1))
    complete = opening + text + end
    assert check_stream(complete).done
    broken = [
        complete.removesuffix(sse.DONE),
        complete + sse.DONE,
        opening * 2 + text + end,
        text + end,
        complete.removesuffix(sse.DONE) + text + sse.DONE,
        complete.replace(b"id-1", b"id-2", 1),
        opening + sse.DONE,
        complete.removesuffix(sse.DONE) + b'data: {"error": {"message": "x"}}\n\n',
    ]
    for raw in broken:
        try:
            check_stream(raw)
        except AssertionError:
            continue
        raise RuntimeError(raw)


def test_whole_document_bodies_have_the_schema_keys() -> None:
    pieces = Piece(0, "Par"), Piece(0, "is", (), "stop")
    chat = whole_document(call(), HEADING, [whole(call(), *pieces)], Usage(1, 2))
    (choice,) = chat["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Paris", "refusal": None}
    assert choice["logprobs"] is None and choice["finish_reason"] == "stop" and chat["object"] == "chat.completion"
    assert chat["system_fingerprint"] == "fp_1" and chat["usage"]["total_tokens"] == 3
    asked = call("completions")
    text = whole_document(asked, HEADING, [whole(asked, *pieces), whole(asked, *pieces)], Usage(1, 2), "In ")
    assert [c["text"] for c in text["choices"]] == ["In Paris"] * 2 and text["object"] == "text_completion"
    assert [c["index"] for c in text["choices"]] == [0, 1]


def test_an_endless_event_is_refused() -> None:
    decoder = sse.Decoder(limit=100)
    try:
        for _ in range(100):
            decoder.feed(b"data: aaaaaaaaaa")
    except sse.TooLong:
        return
    raise AssertionError("it grew without limit")


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_kept_pieces_say_what_the_bytes_said(endpoint: Endpoint) -> None:
    chunks = chunks_of(call(endpoint, usage=True), 2, "" if endpoint == "chat" else "echo ")
    pieces = [Piece(0, "Par"), Piece(1, "Lon"), Piece(0, "is"), Piece(1, "don", (), "stop"), Piece(0, "", (), "length")]
    usage = Usage(3, 4)
    bytes_kept, pieces_kept = KeptAnswer(), KeptPieces(chunks.document)
    pieces_kept.add(pieces)
    pieces_kept.usage = usage
    for data in (chunks.opening(), *map(chunks.piece, pieces), chunks.closing(usage)):
        bytes_kept.add(data)
    folded, made = bytes_kept.content(), json.loads(pieces_kept.content().data)
    assert [choice.pop("logprobs", None) for choice in (*folded["choices"], *made["choices"])] == [None] * 4
    assert made == folded


def test_kept_pieces_of_a_broken_stream() -> None:
    kept = KeptPieces(chunks_of(call()).document)
    kept.add([Piece(0, "Par")])
    kept.error = {"error": {"code": "x"}}
    content = json.loads(kept.content().data)
    assert content["choices"][0]["message"]["content"] == "Par" and content["error"] == {"code": "x"} and "usage" not in content
    kept.add([Piece(0, "a" * 5_000_000)])
    assert kept.too_large


def test_said_texts_are_pieces_of_the_only_choice() -> None:
    kept = KeptPieces(chunks_of(call()).document)
    kept.add([Piece(0, "<")])
    for number in range(600):
        kept.say(f"{number} ")
    sizes = kept.size
    kept.add([Piece(0, ">", (), "stop")])
    (choice,) = json.loads(kept.content().data)["choices"]
    assert choice["message"]["content"] == "<" + "".join(f"{number} " for number in range(600)) + ">"
    assert choice["finish_reason"] == "stop" and 4 * 2290 < sizes < kept.size and not kept.too_large
    for _ in range(512):
        kept.say("a" * 10_000)
    assert kept.too_large and json.loads(kept.content().data)["choices"][0]["message"]["content"] == ""

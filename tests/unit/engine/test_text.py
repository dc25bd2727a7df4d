"""Detokenizer, stop strings, and the two together."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models

from localmodel.api.events import TokenLogprob
from localmodel.engine.answer import Answer
from localmodel.engine.detokenizer import CONTEXT_TOKENS, LONGEST_WINDOW, Detokenizer
from localmodel.engine.plain_tokens import REPLACEMENT, PlainTokens, looks_at_no_neighbour
from localmodel.engine.scheduler import Output
from localmodel.engine.stopping import StopCutter

TEXTS = ["plain words", "naïve café", "日本語のテキスト", "🎉🇫🇷👩‍👩‍👧 done", "a\u0301 e\ufffd x", " leading, trailing \n", ""]


def pieces(detokenizer, ids, cuts):
    edges = [0, *sorted(cuts), len(ids)]
    return [detokenizer.feed(ids[a:b]) for a, b in itertools.pairwise(edges)] + [detokenizer.flush()]


@pytest.mark.parametrize("text", TEXTS)
def test_byte_tokens_one_by_one_give_the_whole_text_and_no_half_character(byte_tokenizer, text):
    ids = byte_tokenizer.encode(text).ids
    out = pieces(Detokenizer(byte_tokenizer), ids, range(1, len(ids)))
    assert "".join(out) == text
    assert "".join(out).count(REPLACEMENT) == text.count(REPLACEMENT)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=40), data=st.data())
def test_cut_anywhere_byte_level(byte_tokenizer, text, data):
    ids = byte_tokenizer.encode(text).ids
    cuts = data.draw(st.sets(st.integers(0, len(ids))))
    assert "".join(pieces(Detokenizer(byte_tokenizer), ids, cuts)) == byte_tokenizer.decode(ids)


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet="ab. é日🎉", max_size=30), data=st.data())
def test_cut_anywhere_byte_fallback_and_the_leading_space_after_a_prompt(fallback_tokenizer, text, data):
    prompt = fallback_tokenizer.encode("go on").ids
    ids = fallback_tokenizer.encode("x" + text).ids[2:]
    cuts = data.draw(st.sets(st.integers(0, len(ids))))
    whole = fallback_tokenizer.decode(prompt + ids).removeprefix("go on")
    assert "".join(pieces(Detokenizer(fallback_tokenizer, prompt), ids, cuts)) == whole


@settings(max_examples=100, deadline=None)
@given(ids=st.lists(st.integers(0, 258), max_size=60))
def test_broken_bytes_come_out_as_replacements_and_nothing_is_lost(byte_tokenizer, ids):
    assert "".join(pieces(Detokenizer(byte_tokenizer), ids, range(len(ids)))) == byte_tokenizer.decode(ids)


def kept(tokenizer, ids):
    """The definition for a byte-fallback tokenizer: bytes not yet out are judged together, and given up where their run ends."""
    text, held = "", b""
    for token in ids:
        piece = tokenizer.id_to_token(token)
        if piece.startswith("<0x"):
            held += bytes([int(piece[3:5], 16)])
            whole = held.decode(errors="ignore")
            if whole.encode() == held and not whole.endswith(REPLACEMENT):
                text, held = text + whole, b""
        else:
            text, held = text + REPLACEMENT * len(held) + piece.replace("▁", " "), b""
    return text + REPLACEMENT * len(held)


bytes_often = st.lists(
    st.sampled_from([*range(257, 286), *(1 + byte for byte in "aé日🎉 ".encode())]) | st.integers(0, 285), max_size=40
)


@settings(max_examples=400, deadline=None)
@given(ids=bytes_often, prompt=bytes_often)
def test_any_byte_fallback_tokens_give_the_whole_text_but_keep_what_was_complete(fallback_tokenizer, ids, prompt):
    prompt = [*prompt, fallback_tokenizer.token_to_id("a")]
    out = "".join(pieces(Detokenizer(fallback_tokenizer, prompt), ids, range(1, len(ids))))
    assert out == kept(fallback_tokenizer, ids)
    whole = fallback_tokenizer.decode([*prompt, *ids]).removeprefix(fallback_tokenizer.decode(prompt))
    if REPLACEMENT not in whole:
        assert out == whole


def test_a_broken_byte_takes_back_nothing(fallback_tokenizer):
    e_acute, broken = [1 + byte for byte in "é".encode()], 1 + 0xFF
    out = pieces(Detokenizer(fallback_tokenizer), [*e_acute, broken, 257 + 1], range(1, 4))
    assert out == ["", "é", "", REPLACEMENT + "a", ""]


def test_the_leading_space_behind_a_prompt_that_ends_in_many_bytes(fallback_tokenizer):
    prompt = fallback_tokenizer.encode("go🎉🎉").ids
    ids = fallback_tokenizer.encode("x on").ids[2:]
    assert "".join(pieces(Detokenizer(fallback_tokenizer, prompt), ids, range(1, len(ids)))) == " on"


def test_of_an_endless_run_of_broken_bytes_nothing_is_lost(fallback_tokenizer):
    """Whole characters among them too: where the window is cut its bytes may become valid."""
    ids = [1 + 0xFF, *(1 + byte for byte in ("あ" * 60).encode())]
    out = "".join(pieces(Detokenizer(fallback_tokenizer), ids, range(1, len(ids))))
    assert len(ids) - 2 * out.count("あ") == len(out) and out.startswith(REPLACEMENT)


def unigram() -> Tokenizer:
    pieces = [
        ("<unk>", 0.0),
        ("▁", -2.0),
        ("▁the", -2.0),
        ("▁▁", -4.0),
        ("é", -3.0),
        ("日", -3.0),
        *((each, -3.0) for each in "abc.,"),
    ]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def wordpiece() -> Tokenizer:
    tokenizer = Tokenizer(
        models.WordPiece({each: number for number, each in enumerate(["?", "a", "##b", "c", ".", "'", "s", "##é"])})
    )
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


@pytest.mark.parametrize("make", [unigram, wordpiece])
def test_any_tokens_of_other_tokenizers_give_the_whole_text(make):
    """Also with tokens that users added, special ones that are not shown, and numbers that are no token's."""
    tokenizer, source = make(), random.Random(1)
    tokenizer.add_special_tokens(["<s>", "<|end|>"])
    tokenizer.add_tokens([AddedToken("<tool>"), AddedToken("  ", normalized=False), AddedToken(" left", lstrip=True)])
    table = PlainTokens(tokenizer)
    for _ in range(200):
        ids, prompt = (
            [source.randrange(tokenizer.get_vocab_size() + 2) for _ in range(source.randint(0, most))] for most in (40, 7)
        )
        context = prompt[-CONTEXT_TOKENS:]
        whole = tokenizer.decode(context + ids)[len(tokenizer.decode(context)) :]
        answer = Answer("s", tokenizer, prompt, (), table)
        events = [answer.take(Output("k", token)) for token in ids] + [answer.take(Output("k", finish="length"))]
        assert "".join(event.text for event in events) == whole


def test_endless_broken_bytes_keep_the_window_short(byte_tokenizer):
    lead = byte_tokenizer.encode("é").ids[:1]
    detokenizer = Detokenizer(byte_tokenizer)
    text = "".join(detokenizer.feed(lead) for _ in range(500)) + detokenizer.flush()
    assert len(detokenizer._window) <= LONGEST_WINDOW + 1
    assert 490 <= text.count(REPLACEMENT) <= 500


def whole_cut(text, stops):
    """The definition: cut before the stop string that is complete first."""
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    return text[: min(ends)[1]] if ends else text


@settings(max_examples=300, deadline=None)
@given(
    text=st.text(alphabet="abc", max_size=20),
    stops=st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=3),
    data=st.data(),
)
def test_stop_strings_cut_the_same_wherever_pieces_are_cut(text, stops, data):
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)))))
    edges = [0, *cuts, len(text)]
    cutter = StopCutter(stops)
    out = "".join(cutter.feed(text[a:b]) for a, b in itertools.pairwise(edges))
    out += "" if cutter.stopped else cutter.flush()
    assert out == whole_cut(text, stops)
    assert cutter.stopped == any(stop in text for stop in stops)


def test_text_that_can_not_become_a_stop_string_is_not_held_back():
    cutter = StopCutter(["###"])
    assert [cutter.feed(piece) for piece in ("a#", "b##", "c", "##", "#d")] == ["a", "#b", "##c", "", ""]
    assert cutter.stopped


def test_an_answer_stopped_by_text_ignores_and_does_not_count_what_the_engine_computed_more(byte_tokenizer):
    ids = byte_tokenizer.encode("yes STOP no").ids
    answer = Answer("s", byte_tokenizer, [1, 2], ["STOP"])
    events = [event for token in ids if (event := answer.take(Output("k", token)))]
    assert "".join(event.text for event in events) == "yes "
    assert events[-1].finish_reason == "stop"
    assert events[-1].usage == (2, len("yes STOP"))
    assert answer.take(Output("k", finish="cancelled")) is None


def test_the_end_flushes_what_was_held(byte_tokenizer):
    ids = byte_tokenizer.encode("ab#").ids
    answer = Answer("s", byte_tokenizer, [1], ["##"])
    events = [answer.take(Output("k", token, "length" if n == 2 else None)) for n, token in enumerate(ids)]
    assert [event.text for event in events] == ["a", "b", "#"]
    assert events[-1].finish_reason == "length"


def test_an_end_without_a_token_carries_usage_and_error(byte_tokenizer):
    answer = Answer("s", byte_tokenizer, [1, 2, 3], [])
    event = answer.take(Output("k", finish="error"), "the step failed")
    assert (event.tokens, event.usage, event.error) == (0, (3, 0), "the step failed")


def lp(token):
    return TokenLogprob(token, -0.5, ((token, -0.5),))


def carried(answer, ids, finish="length"):
    """[(text, tokens whose log-probabilities came with it)] of each event."""
    last = len(ids) - 1
    outputs = [Output("k", token, finish if n == last else None, lp(token)) for n, token in enumerate(ids)]
    events = [event for output in outputs if (event := answer.take(output))]
    return [(event.text, [row.token for row in event.logprobs]) for event in events], events[-1]


def test_logprobs_come_with_the_text_of_their_tokens(byte_tokenizer):
    a, first, second, b = byte_tokenizer.encode("aéb").ids
    events, _ = carried(Answer("s", byte_tokenizer, [1], []), [a, first, second, b])
    assert events == [("a", [a]), ("", []), ("é", [first, second]), ("b", [b])]


def test_logprobs_wait_with_what_may_become_a_stop_string(byte_tokenizer):
    ids = byte_tokenizer.encode("x##y###z").ids
    x, hash_, _, y = ids[:4]
    events, last = carried(Answer("s", byte_tokenizer, [1], ["###"]), ids)
    assert events == [("x", [x]), ("", []), ("", []), ("##y", [hash_, hash_, y]), ("", []), ("", []), ("", [])]
    assert last.finish_reason == "stop", "the stop string's tokens take their log-probabilities with them"


def test_half_a_character_at_the_end_and_a_stop_token(byte_tokenizer):
    half = byte_tokenizer.encode("é").ids[0]
    assert carried(Answer("s", byte_tokenizer, [1], []), [half])[0] == [("\ufffd", [half])]
    a, end = byte_tokenizer.encode("a").ids[0], 257
    assert carried(Answer("s", byte_tokenizer, [1], []), [a, end], finish="stop")[0] == [("a", [a]), ("", [])]
    assert carried(Answer("s", byte_tokenizer, [1], []), [end, a])[0] == [("", [end]), ("a", [a])]


def test_a_stop_token_has_no_text_though_its_tokenizer_does_not_call_it_special(byte_tokenizer):
    a, end = byte_tokenizer.encode("ab").ids
    for logprobs in (False, True):
        (slow, fast, _), _ = every_way(byte_tokenizer, [a], [a, end], logprobs=logprobs, finish="stop")
        assert slow == fast and [event.text for event in fast] == ["a", ""] and fast[-1].usage == (1, 2)
    assert carried(Answer("s", byte_tokenizer, [1], ["b"]), [a, end], finish="stop")[0] == [("a", [a]), ("", [])]


def test_a_token_that_a_stop_string_cuts_in_two_keeps_its_logprob():
    tokenizer = Tokenizer(models.WordLevel({"end.": 0, "more": 1, "?": 2}, unk_token="?"))
    events, last = carried(Answer("s", tokenizer, [], ["."]), [1, 0, 1])
    assert (events, last.finish_reason) == ([("more", [1]), (" end", [0])], "stop")


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet="ab#é日", max_size=12), stops=st.lists(st.sampled_from(["##", "a#b", "é"]), max_size=2))
def test_every_logprob_whose_text_came_came_once_in_order(byte_tokenizer, text, stops):
    ids = byte_tokenizer.encode(text).ids
    if not ids:
        return
    events, _ = carried(Answer("s", byte_tokenizer, [1], stops), ids)
    out = "".join(piece for piece, _ in events)
    assert [token for _, tokens in events for token in tokens] == ids[: len(out.encode())]


STOPS = st.lists(st.sampled_from(["a", "b ", "é", "abc"]) | st.text("ab \ufffd", min_size=1, max_size=3), max_size=2)


def every_way(tokenizer, prompt, ids, stops=(), logprobs=False, finish="length"):
    """The events, without and with the table of plain tokens, and with what it knows then; the last token ends the answer."""
    plain = PlainTokens(tokenizer)
    answers = [Answer("s", tokenizer, prompt, stops, table) for table in (None, plain, plain)]
    outputs = [Output("k", token, logprob=lp(token) if logprobs else None) for token in ids]
    outputs[-1:] = [output._replace(finish=finish) for output in outputs[-1:]]
    return [[answer.take(output) for output in outputs] for answer in answers], plain


@settings(max_examples=150, deadline=None)
@given(ids=st.lists(st.integers(0, 258), max_size=40), prompt=st.lists(st.integers(0, 258), max_size=7), stops=STOPS,
       logprobs=st.booleans())  # fmt: skip
def test_the_table_of_plain_tokens_changes_no_event_byte_level(byte_tokenizer, ids, prompt, stops, logprobs):
    (slow, fast, again), _ = every_way(byte_tokenizer, prompt, ids, stops, logprobs)
    assert slow == fast == again


@settings(max_examples=150, deadline=None)
@given(data=st.data(), stops=STOPS, logprobs=st.booleans())
def test_the_table_of_plain_tokens_changes_no_event_byte_fallback(fallback_tokenizer, data, stops, logprobs):
    token = st.integers(0, fallback_tokenizer.get_vocab_size() - 1)
    prompt, ids = data.draw(st.lists(token, max_size=7)), data.draw(st.lists(token, max_size=40))
    (slow, fast, again), _ = every_way(fallback_tokenizer, prompt, ids, stops, logprobs)
    assert slow == fast == again


@settings(max_examples=150, deadline=None)
@given(text=st.text(alphabet="ab é日", max_size=12), stops=STOPS, logprobs=st.booleans())
def test_the_table_of_plain_tokens_changes_no_event_of_a_text(byte_tokenizer, text, stops, logprobs):
    (slow, fast, again), _ = every_way(byte_tokenizer, [65], byte_tokenizer.encode(text).ids, stops, logprobs)
    assert slow == fast == again


def test_whole_characters_are_looked_up_and_parts_of_them_are_not(byte_tokenizer, fallback_tokenizer):
    for tokenizer in (byte_tokenizer, fallback_tokenizer):
        prompt = tokenizer.encode("go").ids
        ids = tokenizer.encode("go a é").ids[len(prompt) :]
        _, plain = every_way(tokenizer, prompt, ids)
        assert plain[ids[0]] in (" ", " a") and "" in plain.values(), "é is two bytes in both"


def test_a_decoder_that_looks_at_neighbours_has_no_plain_tokens():
    words = Tokenizer(models.WordLevel({"end.": 0, "more": 1, "?": 2}, unk_token="?"))
    (slow, fast, _), plain = every_way(words, [], [1, 0, 1])
    assert slow == fast and [event.text for event in fast] == ["more", " end.", " more"] and set(plain.values()) == {""}
    assert looks_at_no_neighbour({"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "ByteLevel"}]})
    for unknown in ({"type": "CTC"}, {"type": "Replace", "pattern": {"Regex": "a+"}}, {"type": "Strip", "stop": 1}):
        assert not looks_at_no_neighbour({"type": "Sequence", "decoders": [{"type": "Fuse"}, unknown]})

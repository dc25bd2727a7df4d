"""Segments: everything is in one, none is too long, they end where sentences do, and no character is cut."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localmodel.gateway.segments import GAP, keep_ends, split

TEXT = st.text(st.sampled_from('ab字好。！？.!? \n，,”"😀'), max_size=200)


@st.composite
def texts_with_tokens(draw: st.DrawFn) -> tuple[str, list[int]]:
    """Tokens of one to four characters, and characters of up to three tokens."""
    text = draw(TEXT)
    starts: list[int] = []
    place = 0
    while place < len(text):
        width = draw(st.integers(1, 4))
        starts += [place] * (draw(st.integers(1, 3)) if width == 1 else 1)
        place += width
    return text, starts


def count(starts: list[int], start: int, end: int) -> int:
    return len([s for s in starts if start <= s < end])


@settings(max_examples=150, deadline=None)
@given(texts_with_tokens(), st.integers(4, 40), st.floats(0, 0.25))
def test_nothing_is_lost_and_nothing_too_long(tokenized: tuple[str, list[int]], size: int, share: float) -> None:
    text, starts = tokenized
    overlap = int(size * share)
    spans = split(text, starts, size, overlap)
    done = 0
    before = -1
    for start, end in spans:
        assert before < start <= done < end <= len(text)
        assert count(starts, start, done) <= overlap, "the overlap is bounded"
        assert count(starts, start, end) <= size or end == start + 1
        before, done = start, end
    assert done == len(text)
    assert (spans == []) == (text == "")


def by_character(text: str) -> list[int]:
    return list(range(len(text)))


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("道可道，非常道。名可名，非常名。无名天地之始。", ["道可道，非常道。", "名可名，非常名。", "无名天地之始。"]),
        ("他说：“走吧！”然后就离开。", ["他说：“走吧！”", "然后就离开。"]),
        ("One two. Three f", ["One two.", " Three f"]),
        ("pi is 3.14159265", ["pi is ", "3.14159265"]),
        ("no border in thiswordthatislong", ["no border ", "in thiswor", "dthatislon", "g"]),
    ],
)
def test_it_ends_where_sentences_do(text: str, pieces: list[str]) -> None:
    assert [text[start:end] for start, end in split(text, by_character(text), 10, 0)] == pieces


def test_the_end_comes_again() -> None:
    text = "".join(f"第{number:02}句话。" for number in range(20))
    spans = split(text, by_character(text), 24, 6)
    assert len(spans) > 4
    for (_, end), (start, _) in pairwise(spans):
        assert text[start:end] == text[end - 6 : end] and text[start] == "第"


def test_a_real_text_is_cut_at_its_full_stops() -> None:
    text = (Path(__file__).parents[2] / "data" / "classics.txt").read_text(encoding="utf-8")
    starts = [place for place in range(len(text)) for _ in range(2)]
    spans = split(text, starts, 1200, 120)
    assert len(spans) > 15
    assert all(text[end - 1] in "。！？；\n" for _, end in spans)
    assert all(count(starts, *span) >= 600 for span in spans[:-1])


@settings(max_examples=80, deadline=None)
@given(texts_with_tokens(), st.integers(2, 40))
def test_what_is_kept_is_the_beginning_and_the_end(tokenized: tuple[str, list[int]], keep: int) -> None:
    text, starts = tokenized
    kept = keep_ends(text, starts, keep)
    if count(starts, 0, len(text)) <= keep:
        assert kept == text
        return
    head, _, tail = kept.partition(GAP)
    assert text.startswith(head) and text.endswith(tail)
    assert count(starts, 0, len(head)) <= max(keep // 2, 3), "one character at least"
    assert count(starts, len(text) - len(tail), len(text)) <= keep - keep // 2


def test_what_is_kept_ends_with_a_sentence() -> None:
    text = "".join(f"Sentence {number:02} ends. " for number in range(50))
    kept = keep_ends(text, by_character(text), 200)
    head, _, tail = kept.partition(GAP)
    assert head.endswith("ends.") and tail.startswith("Sentence") and tail.endswith("Sentence 49 ends. ")
    assert 150 < len(kept) < 220

"""Bodies redacted in C: what is shown is what Python shows, byte for byte, or nothing; the usual forms are shown."""

import json
import random
import shutil
from typing import Any

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.private_texts import calm_text, emails, escaped, numbers, tricky
from localmodel.api.gateway import RedactKind
from localmodel.gateway import body_search
from localmodel.gateway.bodies import OwnDocument, show
from localmodel.gateway.body_texts import KNOWN_KEYS
from localmodel.gateway.kept_answer import KeptDocument
from localmodel.gateway.redact import Redactor
from localmodel.gateway.shown_bodies import Exchanged, show_all

needs_c = pytest.mark.skipif(not body_search.built(), reason="the environment was made without a C compiler")
ALL_KINDS: tuple[RedactKind, ...] = ("Email", "Phone", "IDCard", "BankCard")
PATTERNS = [r"EMP-\d{6}", r"^at", r"工号：[0-9]+", r"(?s)a.*z"]
REDACTORS = [
    Redactor(ALL_KINDS),
    Redactor(ALL_KINDS, PATTERNS),
    Redactor(("Phone", "BankCard"), [r"\s"]),
    Redactor(("Email",)),
    Redactor(()),
]
redactors = st.sampled_from(REDACTORS)
thorough = settings(deadline=None, max_examples=60)

pieces = st.one_of(
    numbers(),
    emails,
    tricky,
    calm_text,
    st.sampled_from(["EMP-123456", "工号：12", "at", "a", "z", "{", "[1]", "（010）66551234"]),
    st.sampled_from(["＠b.cn", "a＠b.cn谢谢", "a@例.公司", "x%40b.cn", "é@b.de"]),
    st.text(max_size=4),
    st.from_regex(r"[0-9+(][0-9 .()+xX-]{6,30}", fullmatch=True),
)
usual_pieces = st.text("日本 abc,。：；\n\t\"'（）\\中文!?") | numbers() | emails.map(" {} ".format)
usual_texts = st.lists(usual_pieces, max_size=5).map("".join)
texts = st.lists(pieces, max_size=4).map("".join)
keys = st.sampled_from(sorted(KNOWN_KEYS)) | st.sampled_from(["system_fingerprint", "", "other", "13800138000"]) | texts
figures = st.integers(-2_000_000, 2_000_000) | st.floats(allow_nan=False) | st.sampled_from([0.7, 1.0, -0.0, 1e-4])
documents = st.recursive(
    st.none() | st.booleans() | figures | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=8,
)
chats = st.lists(texts, min_size=1, max_size=4).map(
    lambda said: {"model": "m", "messages": [{"role": "user", "content": each} for each in said], "n": 5, "stream": False}
)
changes = st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=3)), max_size=3)


def written(document: Any, chance: random.Random) -> bytes:
    """As some client would."""
    how = chance.randrange(4)
    if how == 0:
        return _with_escapes(document, chance).encode("utf-8", "surrogatepass")
    blanks = {"separators": (",", ":")} if how == 2 else {"indent": chance.choice([None, 1])}
    text = json.dumps(document, ensure_ascii=how == 1, **blanks)
    return text.encode("utf-8", "surrogatepass")


def _with_escapes(document: Any, chance: random.Random) -> str:
    if isinstance(document, str):
        return f'"{escaped(document, chance)}"' if max(document, default="") < "\U00010000" else json.dumps(document)
    if isinstance(document, list):
        return f"[{' , '.join(_with_escapes(each, chance) for each in document)}]"
    if isinstance(document, dict):
        members = [f"{_with_escapes(key, chance)} : {_with_escapes(each, chance)}" for key, each in document.items()]
        return f"{{{','.join(members)}}}"
    return json.dumps(document)


def agree(bodies: list[bytes], redactor: Redactor, ours: bool = False) -> list[str | None]:
    found = list(redactor.show(bodies, [ours] * len(bodies)))
    for body, text in zip(bodies, found, strict=True):
        if text is not None:
            assert text == show(OwnDocument(body) if ours else body, redactor).text
    return found


@pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="no C compiler")
def test_an_environment_with_a_compiler_has_it() -> None:
    assert body_search.built(), "make venv builds it"


def test_where_it_was_not_built_python_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_search, "_library", None)
    redactor = Redactor(ALL_KINDS, PATTERNS)
    body = b'{"content":"call 13800138000"}'
    assert redactor.show([body], [False]) == [None]
    (found,) = show_all([Exchanged("r", body, False, KeptDocument(body))], redactor)
    assert found.request_body == found.response_body == '{"content":"call [Phone]"}'


@thorough
@given(st.lists(documents | chats, min_size=1, max_size=4), redactors, st.integers(0, 1000))
def test_what_is_shown_is_what_python_shows(each: list[Any], redactor: Redactor, seed: int) -> None:
    chance = random.Random(seed)
    agree([written(document, chance) for document in each], redactor)


@thorough
@given(documents | chats, redactors, st.integers(0, 1000), changes)
def test_nor_is_anything_else_shown_of_what_is_no_json(document: Any, redactor: Redactor, seed: int, changes: list[Any]) -> None:
    body = written(document, random.Random(seed))
    for place, data in changes:
        place %= len(body) + 1
        body = body[:place] + data + body[place + seed % 2 :]
    agree([body, b'{"a":"13800138000"}', body[: seed % (len(body) + 1)]], redactor)


@thorough
@given(st.dictionaries(keys, documents, max_size=5), redactors)
def test_answers_of_ours(document: dict[str, Any], redactor: Redactor) -> None:
    agree([json.dumps(document, separators=(",", ":")).encode("utf-8", "surrogatepass")], redactor, ours=True)


@needs_c
@settings(deadline=None, max_examples=60)
@given(usual_texts)
def test_the_usual_forms_are_shown(text: str) -> None:
    chat = {"model": "m", "messages": [{"role": "user", "content": f": {text}"}], "max_tokens": 64, "top_p": 0.7, "user": "a\tb"}
    answer = {"id": "c-1", "created": 1795600000, "model": "m", "choices": [{"index": 0, "message": {"content": f"- {text}"}}]}
    answer |= {"usage": {"prompt_tokens": 5_000_000}, "system_fingerprint": "fp"}
    for ascii_only in (True, False):
        data = json.dumps(answer, ensure_ascii=ascii_only, separators=(",", ":")).encode()
        assert None not in agree([json.dumps(chat, ensure_ascii=ascii_only).encode()], REDACTORS[0])
        assert None not in agree([data], REDACTORS[0], ours=True)


@needs_c
def test_what_python_must_judge_is_left_to_it() -> None:
    for body in (
        b"", b" ", b"{", b'{"a":1}}', b'{"a":1,"a":2}', b'{"x":1,"\\u0078":2}', b'{"a":1e5}', b'{"a":0.10}', b'{"a":-0}',
        b'{"a":01}', b'{"a":0.0001}', b'{"a":1000000}', b'{"a":[1,2]}', b'{"logprobs":{}}', b'{"a":"{}"}', b'{"a":"[1"}',
        b'"\\ud800"', b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\xaf"', b'"\n"', b'"\\u0000"', b"nul", b"[" * 40 + b"]" * 40,
        b'{"13800138000":1}', b"[1,]", b'{"a"}',
        '"é@b.de"'.encode(), '"a@例.公司"'.encode(), b'"a%40b.cn"', '"a@b.cné"'.encode(), b'"' + b"x" * (1 << 17) + b'"',
    ):  # fmt: skip
        assert REDACTORS[0].show([body], [False]) == [None], body
    assert REDACTORS[0].show([b'{"other":1}', b"[]"], [True, True]) == [None, None]


def test_own_patterns_see_the_plain_text_too() -> None:
    body = '["（工号：12）","（ＥＭＰ－１２３４５６），EMP-123456","é"]'.encode()
    assert agree([body, b'"EMP-123456"'], REDACTORS[1]) in (
        ['["（[Redacted]）","（[Redacted]），[Redacted]","é"]', '"[Redacted]"'],
        [None, None],
    )


def test_own_patterns_that_reach_over_texts_take_nothing_of_a_neighbour() -> None:
    bodies = [b'["a","x"]', b'["z", "a-z"]']
    found = show_all([Exchanged("r", body, False, None) for body in bodies], REDACTORS[1])
    assert [each.request_body for each in found] == ['["a","x"]', '["z","[Redacted]"]']


@pytest.mark.parametrize("in_c", [True, False])
def test_many_records_each_have_their_own(in_c: bool) -> None:
    redactor = Redactor(ALL_KINDS, PATTERNS, in_c=in_c)
    bodies = [json.dumps({"prompt": f"no {n}; " * (n * 20) + "13800138000"}).encode() for n in range(70)]
    answers = [json.dumps({"choices": [{"text": f"{n} a@b.cn"}]}).encode() for n in range(70)]
    exchanges = [Exchanged("r", body, False, KeptDocument(answer)) for body, answer in zip(bodies, answers, strict=True)]
    for n, found in enumerate(show_all(exchanges, redactor)):
        assert found.request_body == json.dumps({"prompt": f"no {n}; " * (n * 20) + "[Phone]"}, separators=(",", ":"))
        assert found.response_body == f'{{"choices":[{{"text":"{n} [Email]"}}]}}' and found.withheld is None


def test_what_is_taken_for_no_letter_of_europe_is_none() -> None:
    plain, _ = body_search.tables()
    letter = re2.compile(r"[\p{Latin}\p{Greek}\p{Cyrillic}0-9._%+'\-@]")
    east = [chr(code) for code in range(0x10000) if plain[code] == 0x80]
    assert len(east) > 30_000 and not letter.search("".join(east))

"""Records searched together: each has its own bodies, and one that can't be searched costs no other anything."""

import json
from typing import Any

from localmodel.gateway.bodies import OwnDocument, show
from localmodel.gateway.kept_answer import KeptAnswer, KeptDocument
from localmodel.gateway.redact import Redactor
from localmodel.gateway.shown_bodies import Exchanged, show_all

REDACTOR = Redactor(("Email", "Phone"), ["EMP-[0-9]{6}"])


def kept(data: bytes) -> KeptAnswer:
    answer = KeptAnswer()
    answer.add(data)
    return answer


def own(document: dict[str, Any]) -> OwnDocument:
    return OwnDocument(json.dumps(document).encode())


class Broken:
    size = 0
    too_large = False

    def content(self) -> dict[str, Any]:
        raise ZeroDivisionError("a bug")


class Large(Broken):
    too_large = True


def test_each_record_has_its_own_bodies() -> None:
    bodies = [
        b'{"a": "13800138000", "n": 13800138000}',
        b"",
        b"{half 13800138000",
        b'{"a": "x\\u0000y"}',
        b'["\\u0000", "a@b.cn"]',
        json.dumps({"messages": [{"content": "EMP-123456"}]}).encode(),
    ]
    answers = [kept(b'{"b": "a@b.cn"}'), None, kept(b"data: x 13800138000\n\n"), None, kept(b"plain"), None]
    shown = show_all([Exchanged("r", b, False, a) for b, a in zip(bodies, answers, strict=True)], REDACTOR)
    for each, body, answer in zip(shown, bodies, answers, strict=True):
        alone = show(body, REDACTOR)
        assert (each.request_body, each.request_body_cut, each.withheld) == (*alone, None)
        assert each.response_body == (show(answer.content(), REDACTOR).text if answer is not None else None)
    assert "13800138000" not in str(shown) and "a@b.cn" not in str(shown) and "EMP-123456" not in str(shown)


def test_a_request_that_may_hide_something_is_shown_as_text() -> None:
    body = b'{"a": "13800138000", "b": 1}'
    (shown,) = show_all([Exchanged("r", body, True, None)], REDACTOR)
    assert shown.request_body == '{"a": "[Phone]", "b": 1}', "blanks stay: it was not read as JSON"


def test_a_record_that_is_withheld_costs_no_other_its_bodies() -> None:
    good = Exchanged("good", b'{"a": "13800138000"}', False, None)
    costly = good._replace(request=b'{"a": "' + b"cd" * 400_000 + b'"}')
    slow = Redactor(("Phone",), ["c.*x|d"], seconds=0.2)
    shown = show_all([good, costly, good._replace(answer=Broken()), good._replace(answer=Large()), good], slow)
    assert [each.request_body for each in shown] == ['{"a":"[Phone]"}', None, None, None, '{"a":"[Phone]"}']
    said = [each.withheld or "" for each in shown]
    assert said[0] == said[4] == "" and "too long" in said[1] and "failed" in said[2] and "larger" in said[3]


def test_of_an_answer_of_ours_all_is_searched_but_what_the_gateway_says_of_itself() -> None:
    message = {"role": "assistant", "content": "13800138000", "tool_calls": [{"function": {"arguments": '{"to": "a@b.cn"}'}}]}
    document = {
        "id": "chatcmpl-1",
        "created": 1_795_600_000,
        "model": "m",
        "choices": [{"index": 0, "message": message}],
        "usage": {"prompt_tokens": 10_000_000},
        "error": {"message": "no a@b.cn"},
    }
    (shown,) = show_all([Exchanged("r", b"{}", False, KeptDocument(json.dumps(document).encode()))], REDACTOR)
    whole = show(json.dumps(document).encode(), REDACTOR).text
    assert shown.response_body == whole == show(own(document), REDACTOR).text
    assert "13800138000" not in whole and "a@b.cn" not in whole and '"created":1795600000' in whole
    clean = {**document, "choices": [], "error": None}
    assert json.loads(show(own(clean), REDACTOR).text) == clean
    told = show(own({**clean, "id": "chatcmpl-13800138000", "system_fingerprint": "13800138000"}), REDACTOR).text
    assert told.count("13800138000") == 2, "the record's request_id says it as well"

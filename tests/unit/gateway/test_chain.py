"""The hash chain: an honest log holds however it came to be, and every single thing done to one is found and named."""

import json
import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localmodel.gateway.chain import Chain, digest_of, read_line
from localmodel.gateway.chain_check import Report, check

KEY = b"k" * 16


def make(count: int = 6, *, key: bytes = b"", end: bool = True, chain: str = "c1", **start: Any) -> list[bytes]:
    """A whole chain: start, `count` requests, end."""
    maker = Chain(chain, key)
    contents: list[dict[str, Any]] = [{"kind": "start", "pod": "p", "previous": None, "deleted": [], **start}]
    contents += [{"kind": "request", "n": n, "text": f"日{n}"} for n in range(count)]
    contents += [{"kind": "end"}] if end else []
    return [maker.append(json.dumps(each).encode()) for each in contents]


def judge(*files: list[bytes], key: bytes = b"", running: bool = False) -> Report:
    return check([(f"f{n}", b"".join(lines)) for n, lines in enumerate(files)], key, running=running)


def told(report: Report) -> list[str]:
    """`file:line: word` of each problem."""
    return [f"{each.file}:{each.line}: {each.text.partition(':')[0]}" for each in report.problems]


def head(raw: bytes) -> dict[str, Any]:
    line = read_line(raw)
    assert line is not None
    return {"chain": line.chain, "seq": line.seq, "hash": line.hash}


def reseal(raw: bytes, **fields: Any) -> bytes:
    """What somebody without a key can do: change a line and give it the hash that fits."""
    document = {**json.loads(raw), **fields}
    del document["hash"]
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()[:-1]
    return body + f',"hash":"{digest_of(body)}"}}\n'.encode()


@pytest.mark.parametrize("key", [b"", KEY])
def test_a_whole_log_holds(key: bytes) -> None:
    report = judge(make(key=key), key=key)
    assert report.problems == [] and report.notes == []
    (chain,) = report.chains
    assert (chain.first, chain.head.seq, chain.requests, chain.ended, chain.pod) == (0, 7, 6, True, "p")


def test_lines_are_json_and_carry_their_content() -> None:
    lines = [json.loads(line) for line in make()]
    assert [line["seq"] for line in lines] == list(range(8)) and lines[3]["text"] == "日2"
    assert all(after["prev"] == before["hash"] for before, after in pairwise(lines))


@pytest.mark.parametrize("at", range(8))
def test_an_edited_line_is_named(at: int) -> None:
    lines = make()
    lines[at] = lines[at].replace(b'"kind"', b'"Kind"')
    assert f"f0:{at + 1}: edited" in told(judge(lines, running=True))


def test_an_edited_line_that_is_no_json_any_more_is_named() -> None:
    lines = make()
    lines[3] = lines[3][:20] + b"\x00" + lines[3][20:]
    assert told(judge(lines)) == ["f0:4: edited"]


def test_a_line_that_was_edited_and_resealed_is_named() -> None:
    lines = make()
    lines[3] = reseal(lines[3], text="other")
    assert told(judge(lines)) == ["f0:4: replaced"]
    lines = make(key=KEY)
    lines[3] = reseal(lines[3], text="other")
    assert told(judge(lines, key=KEY)) == ["f0:4: edited"]


@pytest.mark.parametrize("at", range(8))
def test_a_removed_line_is_noticed_where_it_was(at: int) -> None:
    lines = make()
    del lines[at]
    expected = {0: "f0:1: removed", 7: "f0:7: truncated"}.get(at, f"f0:{at + 1}: removed")
    assert told(judge(lines)) == [expected]


@pytest.mark.parametrize("at", range(7))
def test_swapped_lines_are_named(at: int) -> None:
    lines = make()
    lines[at], lines[at + 1] = lines[at + 1], lines[at]
    assert f"f0:{at + 2}: swapped" in told(judge(lines))


@pytest.mark.parametrize("at", range(8))
def test_a_duplicated_line_is_named(at: int) -> None:
    lines = make()
    lines.insert(at + 1, lines[at])
    assert f"f0:{at + 2}: duplicated" in told(judge(lines))


def test_an_added_line_is_named() -> None:
    lines = make()
    lines.insert(4, reseal(lines[3], text="new"))
    assert "f0:5: added" in told(judge(lines))


@pytest.mark.parametrize("size", [1, 20, 150])
def test_half_a_line_at_the_end_is_truncation(size: int) -> None:
    data = b"".join(make())
    assert told(check([("f0", data[: -len(make()[-1]) + size])])) == ["f0:8: truncated"]


def test_a_running_log_need_not_end() -> None:
    lines = make(end=False)
    assert told(judge(lines)) == ["f0:7: truncated"]
    assert judge(lines, running=True).problems == [] and not judge(lines, running=True).chains[0].ended


def test_rotated_files_hold_in_any_order() -> None:
    lines = make(10)
    report = judge(lines[8:], lines[:3], lines[3:8])
    assert report.problems == [] and len(report.chains) == 1
    assert told(judge(lines[8:], lines[:3])) == ["f0:1: removed"]


def test_a_file_that_rotation_deleted_is_explained() -> None:
    maker = Chain("c1")
    lines = [maker.append(json.dumps({"kind": "start"}).encode())]
    lines += [maker.append(b'{"kind":"request"}') for _ in range(3)]
    through = head(lines[-1])
    lines.append(maker.append(json.dumps({"kind": "rotated", "deleted": [{"file": "x", "through": through}]}).encode()))
    lines.append(maker.append(b'{"kind":"end"}'))
    assert judge(lines[4:]).problems == []
    assert told(judge(lines[5:])) == ["f0:1: removed"]


def test_a_killed_process_is_confirmed_by_the_next() -> None:
    first = make(end=False)
    second = make(chain="c2", previous=head(first[-1]))
    report = judge([*first, b'{"chain":"c1","se'], second)
    assert report.problems == [] and len(report.notes) == 1
    assert told(judge(first[:-2], second)) == ["f0:5: truncated"]
    assert told(judge(second)) == ["f0:1: removed"]


def test_lines_of_others_are_passed_over() -> None:
    lines = make()
    report = judge([b"2026-11-26 INFO serving\n", *lines[:4], b"noise\n", *lines[4:]])
    assert report.problems == [] and "2 lines" in report.notes[0]


def test_records_that_were_lost_are_told() -> None:
    maker = Chain("c1")
    contents = [b'{"kind":"start"}', b'{"kind":"lost","count":7}', b'{"kind":"request"}', b'{"kind":"end"}']
    report = judge([maker.append(each) for each in contents])
    assert report.problems == [] and report.chains[0].lost == 7


def test_what_follows_the_end_is_named() -> None:
    maker = Chain("c1")
    contents = [b'{"kind":"start"}', b'{"kind":"end"}', b'{"kind":"request"}']
    assert "f0:2: added" in told(judge([maker.append(each) for each in contents], running=True))


def test_the_wrong_key_fits_nothing() -> None:
    assert len(told(judge(make(key=KEY), key=b"x" * 16))) == 8


def test_what_could_not_be_written_leaves_no_gap() -> None:
    maker = Chain("c1")
    lines = [maker.append(b'{"kind":"start"}')]
    before = maker.head
    maker.append(b'{"kind":"request"}')
    maker.rewind(before)
    lines.append(maker.append(b'{"kind":"end"}'))
    assert judge(lines).problems == []


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(3, 40), st.sampled_from(["flip", "remove", "swap", "repeat", "cut"]))
def test_whatever_one_thing_is_done_is_found(seed: int, count: int, deed: str) -> None:
    chance = random.Random(seed)
    lines = make(count)
    at = chance.randrange(len(lines) - 1)
    match deed:
        case "flip":
            place = chance.randrange(len(lines[at]) - 1)
            byte = chance.choice([b for b in range(256) if b != lines[at][place]])
            lines[at] = lines[at][:place] + bytes([byte]) + lines[at][place + 1 :]
        case "remove":
            del lines[at]
        case "swap":
            lines[at], lines[at + 1] = lines[at + 1], lines[at]
        case "repeat":
            lines.insert(chance.randrange(at + 1, len(lines)), lines[at])
        case "cut":
            lines = [b"".join(lines)[: -chance.randrange(2, len(lines[-1]))]]
    assert judge(lines).problems


@settings(deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_read(data: bytes) -> None:
    check([("f0", data), ("f1", b"".join(make()) + data)])

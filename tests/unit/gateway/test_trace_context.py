"""W3C Trace Context: a valid parent is continued, anything else begins a new trace, and nothing fails."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from localmodel.gateway.trace_context import TraceContext, join_trace

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


def join(*headers: tuple[str, str]) -> TraceContext:
    return join_trace(CIMultiDict(headers))


def test_a_valid_parent_is_continued_with_a_span_of_our_own() -> None:
    trace = join(("Traceparent", PARENT), ("tracestate", "rojo=00f0, congo=t61r cWkg"), ("tracestate", "a@b=1"))
    assert (trace.trace_id, trace.parent_span_id, trace.flags) == (TRACE, SPAN, 1)
    assert trace.span_id != SPAN and re.fullmatch("[0-9a-f]{16}", trace.span_id)
    assert trace.headers() == {
        "traceparent": f"00-{TRACE}-{trace.span_id}-01", "tracestate": "rojo=00f0,congo=t61r cWkg,a@b=1",
    }  # fmt: skip


def test_no_parent_begins_a_trace_that_is_not_sampled() -> None:
    first, second = join(), join_trace({})
    assert first.parent_span_id is None and first.trace_id != second.trace_id
    assert first.flags == 2 and "tracestate" not in first.headers()


@pytest.mark.parametrize(
    "parent",
    [
        "", "x", PARENT.upper(), f"ff{PARENT[2:]}", PARENT + "-00", PARENT + "x", PARENT[:-1], f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01", PARENT.replace("-", "_"), f"0x-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-0g",
        "cc-" + PARENT[3:] + "x", PARENT.replace("4bf9", "٤bf9"),
    ],
)  # fmt: skip
def test_a_malformed_parent_restarts_the_trace_and_drops_the_state(parent: str) -> None:
    trace = join(("traceparent", parent), ("tracestate", "rojo=1"))
    assert trace.trace_id != TRACE and trace.parent_span_id is None and trace.state == ""


def test_two_parents_are_no_parent() -> None:
    assert join(("traceparent", PARENT), ("traceparent", PARENT)).parent_span_id is None


@pytest.mark.parametrize(
    ("parent", "flags"), [(PARENT[:-2] + "ff", 3), ("cc" + PARENT[2:] + "-later", 1), (PARENT[:-2] + "08", 0)]
)
def test_unknown_flags_are_cleared_and_a_later_version_is_read_as_far_as_known(parent: str, flags: int) -> None:
    trace = join(("traceparent", parent))
    assert trace.trace_id == TRACE and trace.flags == flags and trace.parent.startswith("00-")


@pytest.mark.parametrize(
    "state",
    ["foo", "foo=1,foo=2", "Foo=1", "foo=a=b", "=1", "foo=", ",".join(f"k{i}=1" for i in range(33)), "foo=ä", f"{'k' * 257}=1"],
)
def test_a_malformed_state_is_dropped_and_the_parent_kept(state: str) -> None:
    trace = join(("traceparent", PARENT), ("tracestate", state))
    assert trace.trace_id == TRACE and trace.state == ""


@pytest.mark.parametrize("state", ["", " , ,foo=1,", "foo=1,\tbar=2 ", "0/-_*@x=!~"])
def test_empty_members_fall_out(state: str) -> None:
    expected = ",".join(part for part in (each.strip() for each in state.split(",")) if part)
    assert join(("traceparent", PARENT), ("tracestate", state)).state == expected


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["traceparent", "tracestate"]), st.text() | st.just(PARENT)), max_size=4))
def test_what_is_sent_on_is_always_well_formed(headers: list[tuple[str, str]]) -> None:
    trace = join(*headers)
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]", trace.parent)
    assert all(32 <= ord(char) < 127 for char in trace.state)

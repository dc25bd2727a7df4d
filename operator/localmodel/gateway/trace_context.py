"""W3C Trace Context: which trace a request belongs to, and the headers that carry it on and back.

Pure but for the random numbers. A header that breaks the format restarts the trace, as the standard asks; it never fails a
request. Nothing is exported: the log record names trace and span, and whoever called or is called can join on them.
"""

import re
from typing import Any, NamedTuple

from localmodel.gateway.random_ids import random_id

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_MEMBER = re.compile(r"[a-z0-9][a-z0-9_\-*/@]{0,255}=[ -+\--<>-~]{0,255}[!-+\--<>-~]", re.ASCII)
_MOST_MEMBERS = 32
_SAMPLED, _RANDOM = 1, 2
_LONGEST = 512
"""Of traceparent. Later versions may be longer than 55, nobody needs this much."""
_LONGEST_STATE = 8192


class TraceContext(NamedTuple):
    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits: this request here."""
    parent_span_id: str | None
    flags: int
    state: str
    """tracestate as it came; empty if there was none or it was malformed."""

    @property
    def parent(self) -> str:
        """The value of traceparent for whom we call, and of traceresponse for who called us."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"

    def headers(self) -> dict[str, str]:
        """For a request that is made on behalf of this one."""
        return {"traceparent": self.parent, **({"tracestate": self.state} if self.state else {})}


def join_trace(headers: Any) -> TraceContext:
    """Continues the trace of these request headers (a multidict: a repeated traceparent is malformed), or begins one.

    A trace that begins here is not marked as sampled: nobody here records spans, so it is the callee's own decision.
    """
    parents = _all(headers, "traceparent")
    found = _parse_parent(parents[0]) if len(parents) == 1 else None
    if found is None:
        return TraceContext(random_id(32), random_id(16), None, _RANDOM, "")
    trace_id, parent_span_id, flags = found
    return TraceContext(trace_id, random_id(16), parent_span_id, flags, _parse_state(_all(headers, "tracestate")))


def _all(headers: Any, name: str) -> list[str]:
    return list(headers.getall(name, ())) if headers else []


def _parse_parent(text: str) -> tuple[str, str, int] | None:
    match = _PARENT.fullmatch(text.strip(" \t")) if len(text) <= _LONGEST else None
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest is not None) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    known = _SAMPLED | _RANDOM if version == "00" else _SAMPLED
    return trace_id, span_id, int(flags, 16) & known


def _parse_state(values: list[str]) -> str:
    """One list of at most 32 members with different keys; empty members fall out. Anything else is dropped as a whole."""
    text = ",".join(values)
    if len(text) > _LONGEST_STATE:
        return ""
    members = [member for part in text.split(",") if (member := part.strip(" \t"))]
    keys = {member.partition("=")[0] for member in members}
    if len(members) > _MOST_MEMBERS or len(keys) < len(members) or not all(map(_MEMBER.fullmatch, members)):
        return ""
    return ",".join(members)

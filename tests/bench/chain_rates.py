"""What tokens that came at certain times are worth: the same for gateway, channel and raw engine.

It must not know where they came from.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass
class Stream:
    prompt: int
    """Tokens."""
    events: list[tuple[float, int]] = field(default_factory=list)
    """When tokens came (monotonic seconds), and how many."""
    asked: float = 0.0
    error: str = ""

    @property
    def first_seconds(self) -> float:
        return self.events[0][0] - self.asked

    @property
    def seconds(self) -> float:
        return self.events[-1][0] - self.asked


class Rate(NamedTuple):
    per_second: float
    cached: float
    """Tokens in the KV cache, on average."""
    gap: float
    """Median seconds between two arrivals, and the longest of a hundred."""
    gap_p99: float
    steps: float


def decode_rate(streams: Sequence[Stream]) -> Rate:
    """Of the time from the last stream's first token to the first stream's end: all of them decode, and nothing else runs.

    Raises ValueError if there is no such time: the first stream had ended, or all of its tokens came at once.
    """
    began = max(stream.events[0][0] for stream in streams)
    ended = min(stream.events[-1][0] for stream in streams)
    counted = [sum(count for at, count in stream.events if began < at <= ended) for stream in streams]
    before = [stream.prompt + sum(count for at, count in stream.events if at <= began) for stream in streams]
    arrivals = sorted(at for at, _ in streams[0].events if began <= at <= ended)
    gaps = sorted(later - earlier for earlier, later in itertools.pairwise(arrivals))
    if ended <= began or not gaps:
        raise ValueError("there is no time in which all streams decode: ask for longer answers, or fewer at once")
    steps = sum(counted) / len(streams)
    return Rate(
        sum(counted) / (ended - began), sum(before) + sum(counted) / 2, gaps[len(gaps) // 2], gaps[int(len(gaps) * 0.99)], steps
    )


def describe(rate: Rate, limit: float, raw: float) -> str:
    """`limit` and `raw`: tokens per second."""
    return (
        f"{rate.per_second:8.1f} tok/s, {rate.per_second / limit:.3f} of the limit of {limit:,.0f}, {rate.per_second / raw:.3f} "
        f"of raw; gap p50 {rate.gap * 1000:.2f}, p99 {rate.gap_p99 * 1000:.2f} ms; {rate.steps:.0f} steps"
    )

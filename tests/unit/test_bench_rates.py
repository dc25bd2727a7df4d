"""tests/bench/chain_rates: what tokens that came at certain times are worth."""

import pytest

from bench.chain_rates import Stream, decode_rate


def test_only_the_time_when_all_streams_decode_counts():
    early = Stream(100, [(number * 0.01, 1) for number in range(300)])
    late = Stream(200, [(0.5 + number * 0.01, 1) for number in range(300)])
    rate = decode_rate([early, late])
    assert rate.per_second == pytest.approx(200, rel=0.01)
    assert rate.gap == pytest.approx(0.01) and rate.gap_p99 == pytest.approx(0.01)
    assert rate.steps == pytest.approx(249, abs=1), "from the late one's first token to the early one's last"
    assert rate.cached == pytest.approx(300 + 51 + 1 + 249, abs=2), "prompts, answers before, and half of what is measured"


def test_streams_that_never_decode_at_once_have_no_rate():
    first, second = Stream(1, [(0.0, 1), (1.0, 1)]), Stream(1, [(1.0, 1), (2.0, 1)])
    short = Stream(1, [(0.0, 1), (1.2, 1)])
    for streams in ([first, second], [short, second], [Stream(1, [(0.5, 8)])], [Stream(1, [(0.5, 1), (0.5, 1)])]):
        with pytest.raises(ValueError, match="longer answers"):
            decode_rate(streams)


def test_a_pause_is_seen_in_the_longest_gap_and_in_the_rate():
    events = [(number * 0.01 + (1.0 if number > 50 else 0.0), 1) for number in range(101)]
    rate = decode_rate([Stream(1, events)])
    assert rate.per_second == pytest.approx(50) and rate.gap_p99 == pytest.approx(1.01) and rate.gap == pytest.approx(0.01)

import gc
import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

from localmodel.api.events import SequenceEvent, TokenLogprob, Usage
from localmodel.engine.outbox import KEPT_EVENTS, Outbox


def event(id_, text, finish=None):
    return SequenceEvent(id_, text, len(text), finish)


def test_events_of_one_sequence_are_merged_until_the_batch_is_made():
    outbox = Outbox()
    for text in "abc":
        outbox.add(event("s", text))
    outbox.add(event("t", "x"))
    batch = outbox.make_batch()
    assert (batch.number, batch.events) == (1, (event("s", "abc"), event("t", "x")))
    assert outbox.make_batch() is None


def test_the_past_of_one_stream_takes_a_bounded_memory():
    kept, held = KEPT_EVENTS // 32, []
    outbox = Outbox(kept)
    tracemalloc.start()
    for number in range(2 * kept):
        outbox.add(event("chatcmpl-0", str(number)))
        outbox.make_batch()
        if number + 1 in (kept, 2 * kept):
            held.append(32 * tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert held[1] < held[0] + 2**20 < 16 * 2**20


def test_a_number_that_never_was_or_is_gone_is_lost():
    outbox = Outbox(kept_events=2)
    assert outbox.after(0).events == ()
    assert outbox.after(1) is None
    for text in "abcd":
        outbox.add(event("s", text))
        outbox.make_batch()
    assert outbox.after(0) is None
    assert outbox.after(1) is None
    assert outbox.after(2).events == (event("s", "cd"),)
    assert outbox.after(4).events == ()
    assert outbox.after(5) is None


def test_what_is_kept_is_as_it_was_with_reasons_and_log_probabilities():
    events = (
        SequenceEvent("s", "a", 1, logprobs=(TokenLogprob(7, -0.1, ((7, -0.1), (8, -2.5))),)),
        SequenceEvent("t", "é", 2, "error", Usage(3, 2), "[EngineFailed] no"),
    )
    outbox = Outbox()
    for one in events:
        outbox.add(one)
    assert outbox.make_batch().events == outbox.after(0).events == events


def test_the_past_gives_the_collector_nothing_to_look_at():
    outbox = Outbox()
    before = len(gc.get_objects())
    for _ in range(20):
        for number in range(100):
            outbox.add(event(f"s{number}", "text"))
        outbox.make_batch()
    assert len(gc.get_objects()) - before < 100


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.tuples(st.sampled_from("st"), st.text("ab", min_size=1, max_size=3)), st.none()), max_size=40),
       st.integers(0, 40))  # fmt: skip
def test_coming_back_after_any_number_misses_nothing_and_repeats_nothing(actions, cut):
    outbox = Outbox()
    whole, seen = {"s": "", "t": ""}, {"s": "", "t": ""}
    last = 0

    def hear(batch):
        for one in batch.events:
            seen[one.id] += one.text

    for number, action in enumerate(actions):
        if action:
            outbox.add(event(*action))
            whole[action[0]] += action[1]
        elif (batch := outbox.make_batch()) and number < cut:
            hear(batch)
            last = batch.number
    resumed = outbox.after(last)
    hear(resumed)
    assert seen == whole
    assert resumed.number == outbox.number

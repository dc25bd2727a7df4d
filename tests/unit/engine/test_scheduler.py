from hypothesis import given, settings
from hypothesis import strategies as st

from localmodel.engine.scheduler import Scheduler, Sequence


def sequence(key, length=3, max_tokens=4, **more):
    return Sequence(key=key, prompt=tuple(range(length)), max_tokens=max_tokens, **more)


def step(scheduler, token=5):
    works = scheduler.plan()
    return works, scheduler.commit(works, [token for work in works if work.samples])


def test_decoding_goes_first_and_a_long_prompt_takes_one_chunk_per_step():
    scheduler = Scheduler(slots=4, chunk=8)
    scheduler.add(sequence("running"))
    step(scheduler)
    scheduler.add(sequence("long", length=20))
    shapes = []
    for _ in range(4):
        works, _ = step(scheduler)
        shapes.append([(work.sequence.key, work.start, work.count, work.samples) for work in works])
    assert shapes[:3] == [
        [("running", 3, 1, True), ("long", 0, 8, False)],
        [("running", 4, 1, True), ("long", 8, 8, False)],
        [("running", 5, 1, True), ("long", 16, 4, True)],
    ]
    assert shapes[3] == [("long", 20, 1, True)]


def test_short_prompts_share_a_step_and_nobody_overtakes_the_oldest():
    scheduler = Scheduler(slots=4, chunk=8)
    for key, length in (("a", 3), ("b", 6), ("c", 2)):
        scheduler.add(sequence(key, length))
    assert [work.sequence.key for work in step(scheduler)[0]] == ["a"]
    assert [work.sequence.key for work in step(scheduler)[0]] == ["a", "b", "c"]


def test_chunks_begin_at_multiples_whatever_the_company():
    alone = Scheduler(slots=2, chunk=8)
    alone.add(sequence("long", 21))
    company = Scheduler(slots=2, chunk=8)
    company.add(sequence("other", 5))
    company.add(sequence("long", 21))

    def cuts(scheduler):
        works = [work for _ in range(6) for work in step(scheduler)[0] if work.sequence.key == "long"]
        return [(work.start, work.count) for work in works if work.start < 21]

    assert cuts(alone) == cuts(company) == [(0, 8), (8, 8), (16, 5)]


def test_a_cancelled_sequence_frees_its_slot_while_its_step_runs():
    scheduler = Scheduler(slots=1, chunk=8)
    scheduler.add(sequence("old"))
    scheduler.add(sequence("next"))
    works = scheduler.plan()
    assert scheduler.end("old", "cancelled").finish == "cancelled"
    assert scheduler.end("old", "cancelled") is None
    assert scheduler.commit(works, [5]) == []
    assert [work.sequence.key for work in scheduler.plan()] == ["next"]


def test_ends():
    scheduler = Scheduler(slots=4, chunk=64)
    scheduler.add(sequence("stop", stop_tokens={5}))
    scheduler.add(sequence("length", max_tokens=1))
    scheduler.add(sequence("late", deadline=10.0))
    _, outputs = step(scheduler)
    assert [(o.key, o.token, o.finish) for o in outputs] == [("stop", 5, "stop"), ("length", 5, "length"), ("late", 5, None)]
    assert scheduler.expire(9.9) == []
    assert [(o.key, o.finish) for o in scheduler.expire(10.0)] == [("late", "deadline")]
    assert scheduler.plan() == []


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 40), st.integers(1, 6)),
        st.tuples(st.just("cancel"), st.integers(0, 30), st.booleans()),
        st.tuples(st.just("step"), st.integers(0, 3), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(ACTIONS, st.integers(1, 4), st.sampled_from([1, 4, 8]))
def test_any_history_ends_every_sequence_once_and_leaks_no_slot(actions, slots, chunk):
    scheduler = Scheduler(slots, chunk)
    lengths: dict[int, tuple[int, int]] = {}
    ended: dict[int, str] = {}
    tokens: dict[int, int] = {}

    def note(outputs):
        for output in outputs:
            assert output.key not in ended
            tokens[output.key] = tokens.get(output.key, 0) + (output.token is not None)
            if output.finish:
                ended[output.key] = output.finish

    def run_step(cancel=None):
        works = scheduler.plan()
        assert sum(work.count for work in works if not work.sequence.answer) <= chunk
        used = [work.slot for work in works]
        assert len(set(used)) == len(used) <= slots
        assert all(0 <= slot < slots for slot in used)
        assert [bool(w.sequence.answer) for w in works] == sorted((bool(w.sequence.answer) for w in works), reverse=True)
        if cancel is not None and (output := scheduler.end(cancel, "cancelled")):
            note([output])
        note(scheduler.commit(works, [9 for work in works if work.samples]))

    for action, first, second in actions:
        if action == "add":
            key = len(lengths)
            lengths[key] = (first, second)
            scheduler.add(Sequence(key=key, prompt=tuple(range(first)), max_tokens=second))
        elif action == "cancel" and not second:
            note([output] if (output := scheduler.end(first, "cancelled")) else [])
        else:
            run_step(cancel=first if action == "cancel" else None)
    for _ in range(sum(length + answer for length, answer in lengths.values()) + 1):
        run_step()
    assert set(ended) == set(lengths)
    assert scheduler.running == scheduler.waiting == scheduler.tokens_cached == 0
    assert all(tokens[key] == lengths[key][1] for key, reason in ended.items() if reason == "length")
    for number in range(slots):
        scheduler.add(Sequence(key=("again", number), prompt=(1,), max_tokens=1))
    scheduler.plan()
    assert scheduler.running == slots

"""First tokens go out before the text of many others is made; order, numbers and coming back are as ever."""

import pytest

from localmodel.api.channel import MIN_EVENT_GAP_SECONDS
from localmodel.engine.running import WORTH_WAITING

LETTERS = "abcdefghij"
LATE = ("late", "later")


def begin(world, count, instance="a"):
    for number in range(count):
        world.submit(f"s{number}", instance, max_tokens=len(LETTERS))


def run_with_late_ones(world, count=WORTH_WAITING):
    """`count` decode; one more comes, and then another. Returns which of these were accepted."""
    begin(world, count)
    world.run(2)
    accepted = []
    for id_ in LATE:
        accepted += world.submit(id_, max_tokens=3).get("accepted", [])
        world.run(2)
    world.run(len(LETTERS))
    return accepted


def ids(batch):
    return [event.id for event in batch.events]


def texts(batches):
    whole = {}
    for batch in batches:
        for event in batch.events:
            whole[event.id] = whole.get(event.id, "") + event.text
    return whole


EXPECTED = {**{f"s{number}": LETTERS for number in range(WORTH_WAITING)}, **dict.fromkeys(LATE, LETTERS[:3])}


def test_a_first_token_has_a_batch_of_its_own_before_many_others(make_world):
    world = make_world(WORTH_WAITING + 2)
    stream = world.connect()
    run_with_late_ones(world)
    alone = [number for number, batch in enumerate(stream.batches) if len(batch.events) == 1 and batch.events[0].text == "a"]
    assert [ids(stream.batches[number]) for number in alone] == [["late"], ["later"]]
    for number in alone:
        behind = stream.batches[number + 1]
        assert {f"s{other}" for other in range(WORTH_WAITING)} <= set(ids(behind)), "the rest of its step"
        assert not set(ids(behind)) & set(ids(stream.batches[number]))
    assert texts(stream.batches) == EXPECTED
    assert [batch.number for batch in stream.batches] == list(range(len(stream.batches)))


def test_before_few_others_it_shares_theirs(make_world):
    world = make_world(WORTH_WAITING + 2)
    stream = world.connect()
    run_with_late_ones(world, WORTH_WAITING - 2)
    assert all(len(batch.events) >= WORTH_WAITING - 2 for batch in stream.batches if "a" in [e.text for e in batch.events])
    assert texts(stream.batches)["late"] == LETTERS[:3]


def test_many_first_tokens_before_few_others_share_theirs(make_world):
    world = make_world(WORTH_WAITING + 8)
    stream = world.connect()
    begin(world, 10)
    world.run(2)
    for number in range(30):
        world.submit(f"late{number}", max_tokens=3)
    world.run(len(LETTERS))
    assert next(len(batch.events) for batch in stream.batches if "late0" in ids(batch)) == 40


def test_what_several_steps_say_of_one_sequence_stays_in_order(make_world):
    world = make_world(WORTH_WAITING + 1)
    stream = world.connect()
    begin(world, WORTH_WAITING)
    world.run(2)
    world.submit("late", max_tokens=8)
    for _ in range(3):
        world.outputs += world.engine.step()
    world.pass_time(0.01)
    world.run(len(LETTERS))
    assert ids(stream.batches[3]) == ["late"] and stream.batches[3].events[0].text == "abc"
    assert texts(stream.batches) == {f"s{number}": LETTERS for number in range(WORTH_WAITING)} | {"late": LETTERS[:8]}


def test_steps_that_cost_nothing_make_at_most_two_batches_a_gap(make_world):
    world = make_world(2 * WORTH_WAITING)
    stream = world.connect()
    begin(world, WORTH_WAITING)
    world.run(2)
    before, began = len(stream.texts), world.now
    for number in range(30):
        world.submit(f"short{number}", max_tokens=1)
        world.run(1, seconds=MIN_EVENT_GAP_SECONDS / 20)
        world.submit(f"s{100 + number}", max_tokens=1)
    assert len(stream.texts) - before <= 2 * ((world.now - began) / MIN_EVENT_GAP_SECONDS + 1)
    world.run(len(LETTERS))
    assert texts(stream.batches)["short29"] == "a"


def test_a_gateway_that_comes_back_after_any_batch_misses_nothing(make_world):
    world = make_world(WORTH_WAITING + 2)
    stream = world.connect()
    run_with_late_ones(world)
    for seen in range(len(stream.batches)):
        again = world.connect(epoch=2 + seen, after=seen)
        assert texts([*stream.batches[: seen + 1], *again.batches]) == EXPECTED
        assert again.batches[0].number == stream.batches[-1].number and not again.batches[0].lost


@pytest.mark.parametrize("heard", range(2, 13))
def test_a_stream_cut_at_any_batch_resumes_with_what_it_missed(make_world, heard):
    world = make_world(WORTH_WAITING + 2)
    stream = world.connect()
    send = stream.send

    def send_until_cut(text, *, final=False):
        stream.broken = len(stream.texts) >= heard
        send(text, final=final)

    stream.send = send_until_cut
    accepted = run_with_late_ones(world)
    assert len(stream.batches) == heard and stream.closed
    again = world.connect(epoch=2, after=stream.batches[-1].number)
    expected = {id_: text for id_, text in EXPECTED.items() if id_ not in LATE or id_ in accepted}
    assert texts([*stream.batches, *again.batches]) == expected


def test_of_two_gateways_each_hears_its_own(make_world):
    world = make_world(WORTH_WAITING + 1)
    first, second = world.connect("a"), world.connect("b")
    begin(world, WORTH_WAITING)
    world.run(2)
    world.submit("late", "b", max_tokens=3)
    world.run(len(LETTERS))
    assert texts(first.batches) == {f"s{number}": LETTERS for number in range(WORTH_WAITING)}
    assert texts(second.batches) == {"late": LETTERS[:3]}


def test_a_first_token_that_is_refused_by_the_server_cuts_the_stream_and_the_rest_is_kept(make_world):
    world = make_world(WORTH_WAITING + 2)
    stream = world.connect()
    begin(world, WORTH_WAITING)
    world.run(2)
    seen = stream.batches[-1].number
    world.submit("late", max_tokens=3)
    stream.broken = True
    world.run(1)
    assert stream.closed
    again = world.connect(epoch=2, after=seen)
    assert set(ids(again.batches[0])) == {"late", *(f"s{number}" for number in range(WORTH_WAITING))}

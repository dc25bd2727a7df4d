"""The channel's rules with a scripted device: no torch, no Triton, and a clock that the test moves."""

import json

import pytest

from localmodel.engine.channel_token import read_or_create_token


def test_an_answer_comes_as_events(world):
    stream = world.connect()
    assert [batch.events for batch in stream.batches] == [()], "the first response is sent at once"
    assert world.submit() == {"accepted": ["s"], "refused": {}}
    world.run(6)
    assert (stream.text_of("s"), stream.finish_of("s")) == ("abcde", "length")
    assert [batch.number for batch in stream.batches] == [0, 1, 2, 3, 4, 5]
    assert stream.batches[-1].events[0].usage == (2, 5)


def test_steps_shorter_than_the_gap_share_one_response(world):
    stream = world.connect()
    world.submit(max_tokens=10)
    world.run(10, seconds=0.0009)
    world.pass_time(0.01)
    assert stream.text_of("s") == "abcdefghij"
    assert 3 <= len([batch for batch in stream.batches if batch.events]) <= 5


def test_heartbeats_repeat_the_number_and_tell_the_age_of_the_step(world):
    stream = world.connect()
    world.now += 0.05
    world.pump.run(world.now, 0.0)
    assert len(stream.texts) == 1
    world.now += 0.06
    world.pump.run(world.now, 7.5)
    assert stream.batches[1] == (0, 7.5, False, (), "")


@pytest.mark.parametrize("document", [{"op": "submit"}, {"op": "events", "instance": "a"}, {"op": "nothing"}, {}])
def test_malformed_requests_are_refused(world, document):
    assert world.ask(**document).answer["code"] == "invalid_request"


@pytest.mark.parametrize(
    "document",
    [
        {"op": "status"},
        {"op": "cancel", "instance": "a", "ids": ["s"]},
        {"op": "events", "instance": "a", "epoch": 9},
        {"op": "submit", "instance": "a", "epoch": 1, "sequences": [{"id": "s", "prompt": [1]}]},
    ],
)
def test_without_the_token_nothing_is_done(world, document):
    stream = world.connect()
    assert world.ask(**{**document, "token": "x" * 64}).answer["code"] == "bad_token"
    assert not stream.closed


def test_refusals_of_a_submit(world):
    assert world.submit()["code"] == "no_event_stream"
    world.connect(epoch=3)
    assert world.submit(epoch=2)["code"] == "stale_epoch"
    assert world.submit(epoch=3, prompt=[])["code"] == "invalid_request"
    assert world.submit(epoch=3, prompt=[259])["code"] == "invalid_request"
    assert world.submit(epoch=3, stop=[""])["code"] == "invalid_request"
    assert world.submit(epoch=3, prompt=[1] * 40)["code"] == "context_length_exceeded"
    assert world.submit(epoch=3, prompt=[1] * 36)["code"] == "context_length_exceeded"
    assert world.submit(epoch=3, prompt=[1] * 35)["accepted"]
    for number in range(70):
        last = world.submit(f"more{number}", epoch=3)
    assert last["code"] == "overloaded"


def test_sequences_of_one_submit_are_accepted_or_refused_each_by_itself(world):
    stream = world.connect()
    document = world.document("s", max_tokens=3)
    for id_, prompt in (("empty", []), ("long", [1] * 40), ("t", [1, 2])):
        document["sequences"] += world.document(id_, prompt, max_tokens=3)["sequences"]
    answer = world.ask(**document).answer
    assert answer["accepted"] == ["s", "t"]
    assert {id_: refusal["code"] for id_, refusal in answer["refused"].items()} == {
        "empty": "invalid_request",
        "long": "context_length_exceeded",
    }
    world.run(6)
    assert (stream.text_of("s"), stream.text_of("t"), stream.text_of("empty")) == ("abc", "abc", "")
    assert world.ask(**document).answer["accepted"] == ["s", "t"], "a repeated submit starts nothing"
    world.run(6)
    assert (stream.text_of("s"), world.engine.load()) == ("abc", (0, 0, 0))


def test_a_repeated_submit_starts_nothing_even_after_the_end(world):
    stream = world.connect()
    world.submit()
    assert world.submit()["accepted"]
    world.run(6)
    assert world.submit()["accepted"]
    world.run(6)
    assert stream.text_of("s") == "abcde"


def test_cancel_frees_the_slot_for_the_next_step(world):
    stream = world.connect()
    for id_ in ("s", "t", "waits"):
        world.submit(id_)
    world.run(2)
    assert stream.text_of("waits") == ""
    answer = world.ask(op="cancel", instance="a", ids=["s", "unknown"]).answer
    assert answer == {"cancelled": ["s", "unknown"]}
    world.run(2)
    assert stream.finish_of("s") == "cancelled"
    assert stream.text_of("s") == "ab"
    assert stream.text_of("waits") == "ab"


def test_a_stop_string_ends_the_sequence_in_the_engine(world):
    stream = world.connect()
    world.submit(stop=["cd"], max_tokens=20)
    world.run(8)
    assert (stream.text_of("s"), stream.finish_of("s")) == ("ab", "stop")
    assert world.engine.load() == (0, 0, 0)


def test_another_gateway_hears_nothing_and_may_use_the_same_ids(world):
    first, second = world.connect("a"), world.connect("b")
    world.submit("s", "a")
    world.run(2)
    world.submit("s", "b")
    world.run(6)
    assert first.text_of("s") == second.text_of("s") == "abcde"


def test_a_cut_stream_may_come_back_within_the_grace_and_miss_nothing(world):
    first = world.connect()
    world.submit(max_tokens=10)
    world.run(3)
    seen = first.batches[2].number
    first.cancelled = True
    world.run(4, seconds=0.1)
    assert first.closed
    assert world.submit("t")["code"] == "no_event_stream"
    second = world.connect(epoch=2, after=seen)
    world.run(8)
    heard = "".join(e.text for batch in first.batches[:3] for e in batch.events) + second.text_of("s")
    assert (heard, second.finish_of("s")) == ("abcdefghij", "length")


def test_after_the_grace_sequences_end_and_coming_back_is_lost(world):
    first = world.connect()
    world.submit(max_tokens=30)
    world.run(2)
    first.broken = True
    world.run(1)
    assert world.engine.load()[0] == 1
    world.pass_time(world.grace + 0.1)
    assert world.engine.load() == (0, 0, 0)
    second = world.connect(epoch=2, after=2)
    assert second.batches[0].lost
    assert second.batches[0].number == 0


def test_a_newer_epoch_takes_over_and_an_older_is_refused(world):
    first = world.connect(epoch=1)
    world.submit(max_tokens=8)
    world.run(3)
    second = world.connect(epoch=2, after=first.batches[-1].number)
    assert first.closed
    stale = world.ask(op="events", instance="a", epoch=2)
    assert stale.answer["code"] == "stale_epoch"
    world.run(8)
    assert first.text_of("s") + second.text_of("s") == "abcdefgh"


def test_a_direct_client_gets_a_stream_of_its_own(world):
    stream = world.generate(text="hi", sampling={"temperature": 0, "max_tokens": 3})
    world.run(4)
    answers = [json.loads(text) for text in stream.texts]
    assert [answer["text"] for answer in answers] == ["a", "b", "c"]
    assert (answers[-1]["finish_reason"], answers[-1]["completion_tokens"], stream.closed) == ("length", 3, True)


def test_logprobs_travel_with_the_events_of_those_who_asked(world):
    stream = world.connect()
    world.submit("s", logprobs=1)
    world.submit("t")
    world.run(2)
    world.pass_time(0.0005)
    world.run(4)
    events = [event for batch in stream.batches for event in batch.events]
    rows = {id_: [row for event in events if event.id == id_ for row in event.logprobs] for id_ in "st"}
    assert [chr(97 + n) for n, _ in enumerate(rows["s"])] == list(stream.text_of("s"))
    assert rows["s"][0] == (rows["s"][0].token, -1.0, ((rows["s"][0].token, -1.0),))
    assert rows["t"] == []
    direct = world.generate(text="hi", stream=False, sampling={"temperature": 0, "max_tokens": 2, "logprobs": 0})
    world.run(3)
    assert [row[1] for row in direct.answer["logprobs"]] == [-1.0, -1.0]


def test_logit_bias_names_tokens_of_the_vocabulary(world):
    world.connect()
    assert world.submit(logit_bias={259: 1})["code"] == "invalid_request"
    assert world.submit(logit_bias={258: 1})["accepted"]


@pytest.mark.parametrize("bias", ["NaN", "1e308", "-101"])
def test_a_bias_that_is_no_number_from_minus_to_plus_100(world, bias):
    stream = world.stream()
    document = '{"op": "generate", "text": "a", "sampling": {"logit_bias": {"1": BIAS}}}'
    world.channel.handle(document.replace("BIAS", bias), stream)
    assert stream.answer["code"] == "invalid_request" and "logit_bias" in stream.answer["message"]


def test_a_direct_client_that_leaves_ends_its_sequence(world):
    stream = world.generate(prompt=[1, 2])
    world.run(2)
    stream.cancelled = True
    world.run(2, seconds=0.1)
    assert stream.closed
    assert world.engine.load() == (0, 0, 0)


def test_the_token_file_is_made_once_and_only_its_owner_may_read_it(tmp_path):
    path = tmp_path / "run" / "token"
    first = read_or_create_token(path)
    assert read_or_create_token(path) == first
    assert len(bytes.fromhex(first)) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["token"]


def test_what_the_cache_saved_is_counted(world):
    world.connect()
    for id_ in ("a", "b"):
        world.submit(id_, prompt=tuple(range(17)), max_tokens=1)
        world.run(2)
    assert world.engine.cache_events() == (16, 0)

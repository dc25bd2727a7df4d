"""The real threads, over a device that works, fails or hangs."""

import json
import threading
import time

from localmodel.api.channel import MIN_EVENT_GAP_SECONDS, Sampling
from localmodel.engine.blocks import BlockPool
from localmodel.engine.channel import Channel
from localmodel.engine.engine import Engine, Launched, at_once
from localmodel.engine.publisher import CATCH_UP_SECONDS, Publisher
from localmodel.engine.running import WORTH_WAITING
from localmodel.engine.scheduler import Output, Scheduler
from localmodel.gateway.wire import read_batch


class Threads:
    def __init__(self, tokenizer, world, run, step_limit_seconds=60.0):
        self.token = world.token
        self.fatal: list[str] = []
        self.ended = threading.Event()
        self.engine = Engine(
            at_once(run), Scheduler(2, 64, BlockPool(10, 8)), slots=2, context=40, vocabulary=259, stop_tokens=frozenset()
        )
        self.publisher = Publisher(self.engine, self._on_fatal, step_limit_seconds)
        self.channel = Channel(self.engine, tokenizer, world.token, 2.0, self.publisher.put, lambda: None, str)
        self.publisher.start(self.channel)
        self.loop = threading.Thread(target=self._loop, daemon=True)
        self.loop.start()
        self.stream = world.stream()
        self.ask(self.stream, op="events", instance="a", epoch=1)
        self.ask(world.stream(), **world.document("s", [1], max_tokens=20))

    def _on_fatal(self, message):
        self.fatal.append(message)
        self.ended.set()

    def _loop(self):
        try:
            while self.engine.wait_for_work():
                self.publisher.put(self.engine.step())
        except Exception as error:
            self.publisher.fail(error)

    def ask(self, stream, **document):
        self.channel.handle(json.dumps({"token": self.token, **document}), stream)

    def wait_for_end(self):
        until = time.monotonic() + 60
        while not self.stream.finish_of("s") and time.monotonic() < until:
            time.sleep(0.01)
        return next(event for batch in self.stream.batches for event in batch.events if event.finish_reason)


def test_a_whole_answer_and_a_clean_stop(byte_tokenizer, world):
    threads = Threads(byte_tokenizer, world, lambda works: [65] * len(works))
    assert threads.wait_for_end().finish_reason == "length"
    threads.publisher.stop()
    threads.loop.join(20)
    assert not threads.loop.is_alive()
    assert threads.stream.closed
    assert threads.fatal == []


def test_a_failed_step_ends_every_sequence_with_the_reason_and_then_the_process(byte_tokenizer, world):
    steps = iter([[65], [65]])

    def failing(works):
        tokens = next(steps, None)
        if tokens is None:
            raise RuntimeError("device lost")
        return tokens

    threads = Threads(byte_tokenizer, world, failing)
    event = threads.wait_for_end()
    assert event.finish_reason == "error"
    assert event.error.startswith("[EngineFailed] ") and "device lost" in event.error
    assert event.usage == (1, 2)
    assert threads.ended.wait(60)
    assert threads.stream.closed
    assert threads.stream.batches[-1].failure == event.error == threads.fatal[0]


def test_a_hung_step_shows_in_heartbeats_and_ends_the_process(byte_tokenizer, world):
    release = threading.Event()

    def hang(works):
        release.wait(30)
        return [65] * len(works)

    threads = Threads(byte_tokenizer, world, hang, step_limit_seconds=2.0)
    event = threads.wait_for_end()
    release.set()
    assert event.finish_reason == "error"
    assert event.error.startswith("[StepHung] ") and "has been running" in event.error
    assert threads.ended.wait(60)
    assert any(batch.step_age_seconds > 0 and not batch.events for batch in threads.stream.batches)


def test_steps_that_cost_nothing_wait_a_moment_for_their_text_and_lose_none():
    publisher = Publisher(None, lambda message: None)
    began = time.monotonic()
    for token in range(22):
        publisher.put_step([Output("k", token)])
    assert time.monotonic() - began >= 20 * CATCH_UP_SECONDS, "from the third on each waits for its turn"
    assert [output.token for output in publisher._receive(0)] == list(range(22))


def test_a_first_token_is_sent_before_the_step_after_the_next_is_planned_and_no_other_waits():
    def launch(works):
        return Launched(lambda: [65] * sum(work.samples for work in works), may_be_followed=True)

    engine = Engine(launch, Scheduler(2, 4, BlockPool(10, 8)), slots=2, context=40, vocabulary=259, stop_tokens=frozenset())
    paused = []
    for key, prompt in (("a", [1]), ("b", [2] * 9)):
        engine.add_request(key, prompt, Sampling(temperature=0, max_tokens=9))
        for _ in range(4):
            outputs = engine.step()
            paused.append((sorted(output.key for output in outputs), engine.should_pause))
    # b's prompt takes three steps; its first token comes with a's sixth
    a, both = ["a"], ["a", "b"]
    assert paused == [([], False), (a, True), (a, False), (a, False), (a, False), (a, False), (a, False), (both, True)]


def test_a_pause_lasts_until_what_was_handed_over_is_sent(byte_tokenizer, world, monkeypatch):
    monkeypatch.setattr("localmodel.engine.publisher.PAUSE_SECONDS", 20)
    threads = Threads(byte_tokenizer, world, lambda works: threading.Event().wait(30))
    time.sleep(MIN_EVENT_GAP_SECONDS * 2)
    began = time.monotonic()
    threads.publisher.put_step([Output(("a", "s"), 65)], pause=True)
    assert time.monotonic() - began < 10
    assert [event.text for batch in threads.stream.batches for event in batch.events] == ["b"]


def test_a_pause_is_not_ended_by_what_was_handed_over_before(make_world, monkeypatch):
    monkeypatch.setattr("localmodel.engine.publisher.PAUSE_SECONDS", 20)
    world, entered, release, paused = make_world(1), threading.Event(), threading.Event(), threading.Event()
    stream = world.connect()
    world.submit("s")
    send, said = stream.send, []

    def send_slowly(text, *, final=False):
        if read_batch(text).events:
            if not entered.is_set():
                entered.set()
                release.wait(30)
            else:
                paused.wait(0.2)
        send(text, final=final)

    stream.send = send_slowly
    publisher = Publisher(world.engine, lambda message: None)
    publisher.start(world.channel)
    publisher.put(world.engine.step())
    entered.wait(30)
    outputs = world.engine.step()

    def pause():
        publisher.put_step(outputs, pause=True)
        said.append(stream.text_of("s"))
        paused.set()

    pausing = threading.Thread(target=pause)
    pausing.start()
    while publisher._inbox.empty():
        time.sleep(0.001)
    time.sleep(MIN_EVENT_GAP_SECONDS * 2)
    release.set()
    pausing.join(30)
    publisher.stop()
    assert said == ["ab"]


def test_a_pause_does_not_last_until_text_of_many_others_is_sent(make_world, monkeypatch):
    monkeypatch.setattr("localmodel.engine.publisher.PAUSE_SECONDS", 20)
    world, release = make_world(WORTH_WAITING + 1), threading.Event()
    stream = world.connect()
    for number in range(WORTH_WAITING):
        world.submit(f"s{number}")
    world.run(2)
    world.submit("late")
    send = stream.send

    def send_slowly(text, *, final=False):
        if len(read_batch(text).events) > 1:
            release.wait(30)
        send(text, final=final)

    stream.send = send_slowly
    publisher = Publisher(world.engine, lambda message: None)
    publisher.start(world.channel)
    began = time.monotonic()
    publisher.put_step(world.engine.step(), pause=True)
    assert time.monotonic() - began < 10
    assert stream.text_of("late") == "a"
    release.set()
    publisher.stop()
    assert {stream.text_of(f"s{number}") for number in range(WORTH_WAITING)} == {"abc"}

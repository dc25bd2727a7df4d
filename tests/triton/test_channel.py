"""The channel through the real tritonserver: answers, two gateways, take-over, cuts, cancels."""

import json

import pytest

pytestmark = pytest.mark.triton

QUESTION = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
STORY = "<|im_start|>user\nTell a very long story.<|im_end|>\n<|im_start|>assistant\n"


def endless(server, instance, id_, **more):
    assert server.submit(instance, id_, STORY, max_tokens=900, ignore_eos=True, **more)["accepted"]


def test_a_real_question_gets_a_real_answer(server):
    stream = server.events("answer")
    assert server.submit("answer", "s", QUESTION) == {"accepted": ["s"], "refused": {}}
    end = stream.end("s")
    assert "Paris" in stream.text("s")
    assert end.finish_reason == "stop"
    assert end.usage.completion_tokens == sum(event.tokens for event in stream.events("s"))


def test_status_tells_what_is_served(server):
    status = server.status()
    assert (status["architecture"], status["model_version"], status["max_batch_size"]) == ("LlamaForCausalLM", "test", 4)
    assert status["parameters"] == 134_515_008
    assert status["kv_tokens_capacity"] == 4096
    assert status["memory_bytes"] > status["weights_bytes"]


def test_two_gateways_stream_at_once_and_hear_only_their_own(server):
    first, second = server.events("one"), server.events("two")
    server.submit("one", "s", QUESTION)
    server.submit("two", "s", STORY)
    server.submit("two", "t", QUESTION)
    assert {stream.end(id_).finish_reason for stream, id_ in ((first, "s"), (second, "t"))} == {"stop"}
    second.end("s")
    assert first.text("s") == second.text("t")
    assert second.text("s") != first.text("s")
    assert not first.events("t")


def test_a_text_with_many_bytes_per_character_comes_whole(server):
    stream = server.events("bytes")
    prompt = "<|im_start|>user\nRepeat: 日本 🎉🎉<|im_end|>\n<|im_start|>assistant\n日本 🎉🎉日本 🎉🎉日本"
    for number in range(3):
        server.submit("bytes", f"s{number}", prompt, max_tokens=24, temperature=0.8, seed=number, ignore_eos=True)
    for number in range(3):
        stream.end(f"s{number}")
        broken = [event for event in stream.events(f"s{number}") if "\ufffd" in event.text and not event.finish_reason]
        assert broken == []


def test_a_stop_string_and_a_deadline(server):
    stream = server.events("ends")
    server.submit("ends", "stop", QUESTION, stop=["France"])
    endless(server, "ends", "late", deadline=0.3)
    assert stream.end("stop").finish_reason == "stop"
    assert stream.text("stop") == "The capital of "
    assert stream.end("late").finish_reason == "deadline"


def test_heartbeats_come_when_nothing_happens(server):
    stream = server.events("idle")
    server.wait_until(lambda: len(stream.batches) >= 5, "heartbeats")
    assert {batch.number for batch in stream.batches} == {0}


def test_a_newer_epoch_takes_over_and_nothing_is_lost(server):
    first = server.events("over", epoch=1)
    assert server.submit("over", "s", STORY, max_tokens=40, ignore_eos=True)["accepted"]
    server.wait_until(lambda: len(first.events("s")) >= 3, "three events")
    seen = first.last
    second = server.events("over", epoch=2, after=seen)
    assert first.ended.wait(60), "the older stream ends"
    assert server.events("over", epoch=1).refusal["code"] == "stale_epoch"
    assert second.end("s").usage.completion_tokens == 40
    kept = "".join(e.text for batch in first.batches if batch.number <= seen for e in batch.events)
    server.submit("over", "whole", STORY, epoch=2, max_tokens=40, ignore_eos=True)
    second.end("whole")
    assert kept + second.text("s") == second.text("whole")


def test_a_cut_stream_resumes_from_any_number(server):
    first = server.events("cut", epoch=1)
    server.submit("cut", "s", STORY, max_tokens=30, ignore_eos=True)
    server.wait_until(lambda: len(first.events("s")) >= 4, "four events")
    seen = next(batch.number for batch in first.batches if batch.events)
    first.cut()
    second = server.events("cut", epoch=2, after=seen)
    second.end("s")
    assert not any(batch.lost for batch in second.batches)
    kept = "".join(e.text for batch in first.batches if batch.number <= seen for e in batch.events)
    server.submit("cut", "whole", STORY, epoch=2, max_tokens=30, ignore_eos=True)
    second.end("whole")
    assert kept + second.text("s") == second.text("whole")


def test_a_cut_stream_s_sequences_end_after_the_grace(server):
    stream = server.events("gone")
    endless(server, "gone", "s")
    endless(server, "gone", "t")
    server.wait_until(lambda: stream.text("s"), "text")
    stream.cut()
    assert server.status()["running"] == 2
    server.wait_until(lambda: server.status()["running"] == 0, "the end of the grace")
    again = server.events("gone", epoch=2, after=stream.last)
    assert again.batches[0].lost


def test_cancel_frees_the_slot_at_once(server):
    stream = server.events("cancel")
    for number in range(4):
        endless(server, "cancel", f"s{number}")
    server.wait_until(lambda: all(stream.text(f"s{number}") for number in range(4)), "text of all four")
    endless(server, "cancel", "waits")
    assert server.status()["waiting"] == 1
    assert server.ask("cancel", instance="cancel", ids=["s1", "unknown"]) == {"cancelled": ["s1", "unknown"]}
    assert stream.end("s1").finish_reason == "cancelled"
    server.wait_until(lambda: stream.text("waits"), "text of the one that waited")
    ended = [event.id for batch in list(stream.batches) for event in batch.events if event.finish_reason]
    assert ended == ["s1"], "it need not wait for another"
    server.ask("cancel", instance="cancel", ids=["s0", "s2", "s3", "waits"])
    assert server.status()["running"] == server.status()["kv_tokens_used"] == 0


def test_refusals_are_typed_answers(server):
    assert server.ask("status", token="x")["code"] == "bad_token"
    assert server.submit("nobody", "s", QUESTION)["code"] == "no_event_stream"
    server.events("refused")
    assert server.submit("refused", "s", "word " * 2000)["code"] == "context_length_exceeded"
    assert server.ask("cancel", instance="refused")["code"] == "invalid_request"


def test_direct_clients_need_no_token(server):
    sampling = {"temperature": 0, "max_tokens": 6}
    one = server.ask("generate", text="The capital of France is", stream=False, sampling=sampling)
    assert "Paris" in one["text"]
    assert (one["finish_reason"], one["completion_tokens"]) == ("length", 6)
    document = {"op": "generate", "text": "The capital of France is", "sampling": sampling}
    connection, response = server.open("/v2/models/llm/generate_stream", document)
    lines = [line for line in response.read().decode().splitlines() if line.startswith("data: ")]
    connection.close()
    answers = [json.loads(json.loads(line[6:])["RESPONSE"]) for line in lines]
    assert len(answers) > 1
    assert "".join(answer["text"] for answer in answers) == one["text"]


def test_a_seed_repeats_the_text_in_other_company(server):
    stream = server.events("seed")
    more = {"temperature": 1.0, "top_p": 0.9, "seed": 7, "max_tokens": 24}
    server.submit("seed", "alone", STORY, **more)
    stream.end("alone")
    for number in range(2):
        endless(server, "seed", f"noise{number}")
    server.submit("seed", "company", STORY, **more)
    stream.end("company")
    server.ask("cancel", instance="seed", ids=["noise0", "noise1"])
    assert stream.text("company") == stream.text("alone")

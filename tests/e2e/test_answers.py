"""A real model answers through the whole chain: Service, gateway, Triton, PyTorch."""

import openai
import pytest

from e2e.world import World, until

QUESTION: list = [{"role": "user", "content": "Name the capital of France."}]


def test_answer_contains_paris(world: World, chat: str) -> None:
    assert "Paris" in world.ask(chat)


def test_streamed_answer_contains_paris(world: World, chat: str) -> None:
    with world.client(chat) as client:
        stream = client.chat.completions.create(
            model=chat, messages=QUESTION, max_tokens=24, temperature=0, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
    assert "Paris" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason] == ["stop"]
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens > 3


def test_a_long_answer_comes_in_pieces(world: World, chat: str) -> None:
    """On a busy machine several tokens make one."""
    story: list = [{"role": "user", "content": "Write a long story about a dragon and a princess."}]
    with world.client(chat) as client:
        stream = client.chat.completions.create(model=chat, messages=story, max_tokens=200, temperature=0, stream=True)
        assert len([chunk for chunk in stream if chunk.choices and chunk.choices[0].delta.content]) > 5


def test_models_are_listed(world: World, chat: str) -> None:
    with world.client(chat) as client:
        assert [model.id for model in client.models.list()] == [chat]


def test_prompt_over_the_window_is_refused_with_numbers(world: World, chat: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        world.ask(chat, "word " * 3000)
    assert refused.value.code == "context_length_exceeded"
    assert "1024" in refused.value.message


def test_status_and_columns_tell_the_truth(world: World, chat: str) -> None:
    status = world.status(chat)
    conditions = {condition["type"]: condition["status"] for condition in status["conditions"]}
    assert {conditions[name] for name in ("Ready", "Accepted", "Scheduled", "ModelLoaded", "GatewayReady")} == {"True"}
    assert conditions["Progressing"] == "False"
    assert status["readyReplicas"] == 1
    assert status["endpoint"].startswith(f"http://{chat}.{world.namespace}.svc")
    assert status["memory"]["measuredBytes"] > 200_000_000
    header, row = world.kubectl("get", "lm", chat).splitlines()
    assert header.split()[:2] == ["NAME", "READY"]
    assert row.split()[:2] == [chat, "True"]


def test_canary_word_of_a_prompt_is_in_no_log(world: World, chat: str) -> None:
    """Mode Metadata, the default: no prompt and no answer in any log of the pod or of the operator."""
    canary = "xylophonequartz"
    pod = world.pods(chat)[0]["metadata"]["name"]
    before = len(world.records(pod))
    world.ask(chat, f"Repeat this word: {canary}")
    records = until(lambda: world.records(pod)[before:], "a record of the request in the log")
    assert [record["outcome"] for record in records] == ["ok"]
    logs = world.kubectl("logs", pod, "-c", "gateway") + world.kubectl("logs", pod, "-c", "triton") + world.operator_logs()
    assert canary not in logs

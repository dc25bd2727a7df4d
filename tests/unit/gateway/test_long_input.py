"""A chat that is too long, with a real tokenizer and template: what is left out, and into what a document is cut."""

import asyncio
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest

from gateway.tiny_model import write_tiny_model
from localmodel.gateway import errors, truncation
from localmodel.gateway import long_input as module
from localmodel.gateway.long_input import LongInput, Mode
from localmodel.gateway.openai_request import Call, fit_window, parse_call
from localmodel.gateway.prompts import Prompts, load_prompts
from localmodel.gateway.timers import Limit

WINDOW = 512


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Prompts:
    return load_prompts(str(write_tiny_model(tmp_path_factory.mktemp("model"))))


def words(count: int, word: str = "word") -> str:
    return " ".join(f"{word}{number}" + (" ." if number % 10 == 9 else "") for number in range(count))


def build(*messages: tuple[str, str], **fields: Any) -> Call:
    body = {"messages": [{"role": role, "content": content} for role, content in messages], **fields}
    return parse_call("chat", body, ("m",), 100)


def refusal(prompts: Prompts, call: Call, room: int = WINDOW) -> errors.ApiError:
    with pytest.raises(errors.ApiError) as refused:
        fit_window(call, len(prompts.encode(call)), room)
    return refused.value


async def shortened(prompts: Prompts, call: Call) -> list[str]:
    refused = refusal(prompts, call)
    long_input = LongInput("Truncate", prompts)
    assert long_input.helps(call, refused)
    shorter, prompt = await long_input.shorten(call, refused, WINDOW)
    assert prompt == prompts.encode(shorter)
    fit_window(shorter, len(prompt), WINDOW)
    return [message["content"] for message in shorter.messages]


@pytest.mark.parametrize(("mode", "helps"), [("Reject", False), ("Truncate", True), ("Segment", True)])
def test_only_chats_that_are_too_long(prompts: Prompts, mode: Mode, helps: bool) -> None:
    call = build(("user", words(600)))
    long_input = LongInput(mode, prompts)
    assert long_input.helps(call, refusal(prompts, call)) == helps
    assert not long_input.helps(call, errors.bad_request("no"))
    completion = parse_call("completions", {"prompt": words(600)}, ("m",), 100)
    assert not long_input.helps(completion, refusal(prompts, completion))


async def test_whole_turns_go_first_and_no_more_than_needed(prompts: Prompts) -> None:
    turn = words(100)
    call = build(("system", "Be brief"), *([("user", turn), ("assistant", "yes")] * 6), ("user", "And now?"), max_tokens=20)
    left = await shortened(prompts, call)
    assert left == ["Be brief", *([turn, "yes"] * 4), "And now?"]


async def test_an_open_answer_gets_a_quarter_of_the_window(prompts: Prompts) -> None:
    turn = words(100)
    left = await shortened(prompts, build(*([("user", turn), ("assistant", "yes")] * 6), ("user", "And now?")))
    assert left == [*([turn, "yes"] * 3), "And now?"]


async def test_then_the_middle_of_the_last_message(prompts: Prompts) -> None:
    text = words(900)
    call = build(("system", words(50, "rule")), ("user", "old"), ("assistant", "older"), ("user", text), max_tokens=100)
    system, last = await shortened(prompts, call)
    assert system == words(50, "rule"), "the system message is never touched"
    head, _, tail = last.partition("\n[…]\n")
    assert text.startswith(head) and text.endswith(tail) and tail.endswith("word899 .")
    assert head.endswith(".") and tail.startswith("word"), "cut where sentences end"
    assert head.count("word") > 100 and tail.count("word") > 100


async def test_what_can_not_be_shortened_is_refused_with_a_reason(prompts: Prompts) -> None:
    for call in (build(("system", words(600)), ("user", "hi")), build(("user", words(600)), max_tokens=500)):
        refused = refusal(prompts, call)
        with pytest.raises(errors.ApiError) as raised:
            await LongInput("Truncate", prompts).shorten(call, refused, WINDOW)
        assert (raised.value.code, raised.value.param) == (refused.code, refused.param)
        assert raised.value.message.startswith(refused.message) and "ask for fewer tokens" in raised.value.message


async def test_a_document_is_cut_into_parts_that_fit(prompts: Prompts) -> None:
    text = words(2000)
    call = build(
        ("system", "Be brief"), ("user", f"Summarize:\n\n{text}\n\nIn one line."), max_tokens=40, stop=["x"], n=2, logprobs=True
    )
    reading = await LongInput("Segment", prompts).cut(call, refusal(prompts, call), WINDOW)
    assert len(reading.segments) > 4
    for number in range(1, len(reading.segments) + 1):
        part = reading.part(number)
        system, message = (each["content"] for each in part.messages)
        assert system == "Be brief" and message.startswith("Summarize:\n\n[Part ") and message.endswith("\n\nIn one line.")
        assert f"[Part {number} of {len(reading.segments)} of the text]" in message
        assert (part.sampling.max_tokens, part.sampling.stop, part.sampling.logprobs, part.n) == (40, (), None, 1)
        assert len(prompts.encode(part)) + 40 <= WINDOW
    for word in ("word0", "word999", "word1999"):
        assert any(f"{word} " in segment for segment in reading.segments)
    last = reading.join(["first answer", "second answer"], last=True)
    assert last.sampling == call.sampling and last.n == 2
    assert "first answer" in last.messages[1]["content"] and "word0" not in last.messages[1]["content"]
    between = reading.join(["a", "b"], last=False)
    assert between.sampling.max_tokens == 40 and between.n == 1 and between.sampling.stop == ()


async def test_what_can_not_be_cut_is_refused_with_a_reason(prompts: Prompts) -> None:
    long_input = LongInput("Segment", prompts)
    crowded = build(("system", words(480)), ("user", words(600)))
    with pytest.raises(errors.ApiError, match="the rest of the chat") as refused:
        await long_input.cut(crowded, refusal(prompts, crowded), WINDOW)
    assert (refused.value.status, refused.value.code) == (400, "context_length_exceeded")
    silent = build(("system", words(600)))
    with pytest.raises(errors.ApiError, match="context window"):
        await long_input.cut(silent, refusal(prompts, silent), WINDOW)
    endless = build(("user", words(130_000)))
    with pytest.raises(errors.ApiError, match="256 are allowed"):
        await long_input.cut(endless, refusal(prompts, endless), WINDOW)


async def test_an_engine_that_holds_less_than_the_window_sets_the_room(prompts: Prompts) -> None:
    room = WINDOW // 2
    call = build(*([("user", words(60)), ("assistant", "yes")] * 6), ("user", "And now?"), max_tokens=20)
    _, prompt = await LongInput("Truncate", prompts).shorten(call, refusal(prompts, call, room), room)
    assert len(prompt) + 20 <= room
    document = build(("user", f"Summarize:\n\n{words(1000)}"), max_tokens=20)
    reading = await LongInput("Segment", prompts).cut(document, refusal(prompts, document, room), room)
    longest = max(len(prompts.encode(reading.part(number))) for number in range(1, len(reading.segments) + 1))
    assert room // 2 < longest and longest + 20 <= room


async def test_a_long_text_is_not_cut_while_everybody_waits(prompts: Prompts, monkeypatch: pytest.MonkeyPatch) -> None:
    where: list[threading.Thread] = []

    def noting(work: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any) -> Any:
            where.append(threading.current_thread())
            return work(*arguments)

        return noted

    monkeypatch.setattr(module, "find_document", noting(module.find_document))
    monkeypatch.setattr(module, "split", noting(module.split))
    monkeypatch.setattr(truncation, "keep_ends", noting(truncation.keep_ends))
    call = build(("user", f"Summarize:\n\n{words(2000)}"), max_tokens=20)
    await LongInput("Segment", prompts).cut(call, refusal(prompts, call), WINDOW)
    cuts = len(where)
    await LongInput("Truncate", prompts).shorten(call, refusal(prompts, call), WINDOW)
    assert cuts == 2 < len(where) and threading.main_thread() not in where


async def test_the_requests_deadline_holds_while_a_text_is_cut(prompts: Prompts) -> None:
    call = build(("user", f"Summarize:\n\n{words(2000)}"), max_tokens=20)
    refused, done = refusal(prompts, call), threading.Event()
    busy = asyncio.create_task(prompts.in_thread(done.wait, 30.0))
    limit = Limit(monotonic() + 0.05, "total_timeout", 0.05)
    for waiting in (
        LongInput("Segment", prompts).cut(call, refused, WINDOW, limit),
        LongInput("Truncate", prompts).shorten(call, refused, WINDOW, limit),
    ):
        with pytest.raises(errors.ApiError, match="not finished within"):
            await asyncio.wait_for(waiting, 20)
    done.set()
    await busy

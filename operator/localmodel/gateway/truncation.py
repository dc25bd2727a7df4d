"""`longInput: Truncate`: a chat that is too long loses its oldest turns, then the middle of the longest message of its last turn.

What to leave out is decided in `turns` and `segments`; here it is tried how much of it is enough, because only the model's own
template and tokenizer know how long a chat is.
"""

from dataclasses import replace
from functools import partial
from typing import Any

from localmodel.gateway import errors
from localmodel.gateway.openai_request import Call
from localmodel.gateway.prompts import Prompts
from localmodel.gateway.segments import keep_ends
from localmodel.gateway.turns import longest_place, older_turns, without

LEAST_KEPT = 32
"""Tokens of the last turn's message; less would be another question."""
_TRIES = 6
_MARGIN = 4

Shortened = tuple[Call, tuple[int, ...]]


async def shorten(prompts: Prompts, call: Call, room: int, refused: errors.ApiError) -> Shortened:
    """The call as it can be sent, and its prompt of at most `room` tokens. Raises 400, as `refused`, if nothing helps."""
    turns = older_turns(call.messages)
    low, high = 1, len(turns)
    found: Shortened | None = None
    while low <= high:
        count = (low + high) // 2
        shorter = replace(call, messages=without(call.messages, turns[:count]))
        prompt = await prompts.encode_async(shorter)
        if len(prompt) <= room:
            found, high = (shorter, prompt), count - 1
        else:
            low = count + 1
    return found or await _cut_longest(prompts, replace(call, messages=without(call.messages, turns)), room, refused)


async def _cut_longest(prompts: Prompts, call: Call, room: int, refused: errors.ApiError) -> Shortened:
    place = longest_place(call.messages)
    if place is None:
        raise _too_little_room(refused)
    text = call.messages[place]["content"]
    starts = await prompts.token_starts_async(text)
    keep = room - len(await prompts.encode_async(_with_content(call, place, ""))) - _MARGIN
    for _ in range(_TRIES):
        if keep < LEAST_KEPT:
            break
        ends = await prompts.in_thread(partial(keep_ends, text, starts), keep)
        shorter = _with_content(call, place, ends)
        prompt = await prompts.encode_async(shorter)
        if len(prompt) <= room:
            return shorter, prompt
        keep -= len(prompt) - room + _MARGIN
    raise _too_little_room(refused)


def _too_little_room(refused: errors.ApiError) -> errors.ApiError:
    return errors.context_length_exceeded(
        f"{refused.message} Its last message can't be shortened enough: system messages and the answer leave it too little room. "
        "Shorten those, or ask for fewer tokens.",
        refused.param,
    )


def _with_content(call: Call, place: int, content: str) -> Call:
    messages: list[dict[str, Any]] = list(call.messages)
    messages[place] = {**messages[place], "content": content}
    return replace(call, messages=messages)

"""What to leave out of a chat that is too long: whole turns, the oldest first.

Pure. System messages always stay. A turn is a user's message and what follows it until the next one; the last turn stays, too.
"""

from collections.abc import Sequence
from typing import Any


def older_turns(messages: Sequence[dict[str, Any]]) -> list[list[int]]:
    """Places of the messages of each turn before the last one, oldest first; what precedes the first user is a turn as well."""
    turns: list[list[int]] = []
    for place, message in enumerate(messages):
        if message["role"] == "system":
            continue
        if message["role"] == "user" or not turns:
            turns.append([])
        turns[-1].append(place)
    return turns[:-1]


def without(messages: Sequence[dict[str, Any]], turns: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """The chat without these turns."""
    left_out = {place for turn in turns for place in turn}
    return [message for place, message in enumerate(messages) if place not in left_out]


def longest_place(messages: Sequence[dict[str, Any]]) -> int | None:
    """Of the message to shorten when the last turn alone is too long; system messages are not touched."""
    places = [place for place, message in enumerate(messages) if message["role"] != "system" and message["content"]]
    return max(places, key=lambda place: len(messages[place]["content"]), default=None)

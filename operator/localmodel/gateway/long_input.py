"""What becomes of a chat that does not fit the context window, as `longInput` says: refused, shortened, or read in parts.

A chat that fits is never touched, and what was left out or read in parts is told in the answer, the record and the metrics.
Completions and `/v2` are always refused: their prompt is the client's own.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from localmodel.gateway import errors
from localmodel.gateway.document import Document, find_document, join_text, part_text, with_text
from localmodel.gateway.openai_request import Call
from localmodel.gateway.prompts import Prompts
from localmodel.gateway.reading_plan import MOST_SEGMENTS, Sizes, fit_sizes
from localmodel.gateway.segments import split
from localmodel.gateway.time_limit import within
from localmodel.gateway.timers import Limit
from localmodel.gateway.truncation import Shortened, shorten

Mode = Literal["Reject", "Truncate", "Segment"]


@dataclass(frozen=True)
class Reading:
    """A document cut up, and the chat that it stands in."""

    call: Call
    document: Document
    sizes: Sizes
    segments: tuple[str, ...]

    def part(self, number: int) -> Call:
        """What is asked about one segment, from 1."""
        return self._ask(part_text(self.document, self.segments[number - 1], number, len(self.segments)))

    def join(self, answers: list[str], *, last: bool) -> Call:
        """What is asked about answers. Only the last call is the client's own: with its tools, its form and its choices."""
        if last:
            return replace(self.call, messages=with_text(self.call.messages, self.document, join_text(self.document, answers)))
        return self._ask(join_text(self.document, answers))

    def _ask(self, text: str) -> Call:
        changes = {"max_tokens": self.sizes.part, "stop": (), "json_schema": None, "logprobs": None}
        sampling = self.call.sampling.model_copy(update=changes)
        messages = with_text(self.call.messages, self.document, text)
        return replace(self.call, messages=messages, sampling=sampling, tools=None, n=1)


class LongInput:
    """`room`, of each request: tokens of one prompt and answer together."""

    def __init__(self, mode: Mode, prompts: Prompts) -> None:
        self.mode = mode
        self._prompts = prompts

    def helps(self, call: Call, refused: errors.ApiError) -> bool:
        return self.mode != "Reject" and call.endpoint == "chat" and refused.code == "context_length_exceeded"

    async def shorten(self, call: Call, refused: errors.ApiError, room: int, limit: Limit | None = None) -> Shortened:
        """An open max_tokens gets a quarter of the room."""
        least = call.sampling.max_tokens or room // 4
        return await within(limit, shorten(self._prompts, call, room - least, refused))

    async def cut(self, call: Call, refused: errors.ApiError, room: int, limit: Limit | None = None) -> Reading:
        """Raises 400 if there is no document, or what comes with each part leaves no room for it."""
        return await within(limit, self._cut(call, refused, room))

    async def _cut(self, call: Call, refused: errors.ApiError, room: int) -> Reading:
        document = await self._prompts.in_thread(find_document, call.messages)
        if document is None:
            raise refused
        whole = Reading(call, document, Sizes(0, 0, 1, 0, 0, 0, 0), ("",) * MOST_SEGMENTS)
        part_frame = len(await self._prompts.encode_async(whole.part(MOST_SEGMENTS)))
        join_frame = len(await self._prompts.encode_async(whole.join([], last=True)))
        sizes = fit_sizes(room, part_frame, join_frame, call.sampling.max_tokens)
        if sizes is None:
            raise errors.context_length_exceeded(
                f"{refused.message} The text could be read in parts, but the rest of the chat ({part_frame} tokens) and the "
                "answer leave too little room for them. Shorten the rest, or ask for fewer tokens.",
                "messages",
            )
        starts = await self._prompts.token_starts_async(document.body)
        spans = await self._prompts.in_thread(partial(split, document.body, starts, sizes.segment), sizes.overlap)
        if len(spans) > MOST_SEGMENTS:
            raise errors.context_length_exceeded(
                f"The text has {len(starts)} tokens and would be read in {len(spans)} parts; {MOST_SEGMENTS} are allowed. "
                "Send less of it at a time.",
                "messages",
            )
        return Reading(call, document, sizes, tuple(document.body[start:end] for start, end in spans))

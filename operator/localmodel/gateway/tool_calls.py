"""Finding tool calls in a model's text while it is being written.

Pure. Text that may be the beginning of a call is held back until it is known to be one or not; what turns out not to be a
call is given out as text, so that nothing is lost. Two written forms are known, and the form that a schema forced.
"""

import json
import secrets
from typing import Any, Literal, NamedTuple

from localmodel.api.channel import Sampling
from localmodel.gateway.openai_fields import MAX_STOPS
from localmodel.gateway.openai_tools import Tools

ToolFormat = Literal["Hermes", "Llama"]
"""Hermes (Qwen too): `<tool_call>{"name", "arguments"}</tool_call>` between texts. Llama 3: an answer that is nothing but
`{"name", "parameters"}`, several separated by semicolons."""
ARGUMENTS_KEYS: dict[ToolFormat, str] = {"Hermes": "arguments", "Llama": "parameters"}
FORCED_OPENINGS: dict[ToolFormat, str] = {"Hermes": "<tool_call>\n", "Llama": ""}
"""What is put before an answer that must be a call, so that the model writes on where it would have begun."""
OPEN, CLOSE = "<tool_call>", "</tool_call>"
_PYTHON_TAG = "<|python_tag|>"


class ToolCall(NamedTuple):
    id: str
    name: str
    arguments: str
    """JSON text of an object."""

    def document(self) -> dict[str, Any]:
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


class Found(NamedTuple):
    """What became certain: text first, then calls."""

    text: str
    calls: tuple[ToolCall, ...] = ()


def sampling_with_tools(tools: Tools | None, sampling: Sampling, form: ToolFormat | None) -> Sampling:
    """A demanded call is forced by a schema; where one call is the limit, generation stops behind it."""
    if tools is None or form is None:
        return sampling
    if tools.forced:
        return sampling.model_copy(update={"json_schema": tools.schema(ARGUMENTS_KEYS[form])})
    if form == "Hermes" and not tools.parallel and len(sampling.stop) < MAX_STOPS:
        return sampling.model_copy(update={"stop": (*sampling.stop, CLOSE)})
    return sampling


class ToolReader:
    def __init__(self, form: ToolFormat, *, forced: bool = False, parallel: bool = True) -> None:
        self._whole = forced or form == "Llama"
        self._forced = forced
        self._parallel = parallel
        self._held = ""
        self._plain = False
        """Llama: the answer began as text and is no call."""
        self.calls = 0

    def feed(self, text: str) -> Found:
        self._held += text
        return self._feed_whole() if self._whole else self._feed_tagged(at_end=False)

    def end(self) -> Found:
        """The text has ended: what is still held is one or the other."""
        if not self._whole:
            return self._feed_tagged(at_end=True)
        held, self._held = self._held, ""
        calls = () if self._plain else _documents(held.strip().removeprefix(_PYTHON_TAG))
        if not calls:
            return Found(held)
        return Found("", self._count(calls))

    def _feed_whole(self) -> Found:
        start = self._held.lstrip()
        if not self._forced and not (start[:1] == "{" or _PYTHON_TAG.startswith(start[: len(_PYTHON_TAG)])):
            self._plain = True
        if not self._plain:
            return Found("")
        text, self._held = self._held, ""
        return Found(text)

    def _feed_tagged(self, *, at_end: bool) -> Found:
        texts: list[str] = []
        calls: list[ToolCall] = []
        while True:
            before, opened, rest = self._held.partition(OPEN)
            if not opened:
                break
            inner, closed, after = rest.partition(CLOSE)
            if not closed and not at_end:
                texts.append(self._take(before.rstrip(), keep=before[len(before.rstrip()) :] + opened + rest))
                return Found("".join(texts), self._count(calls))
            found = _documents(inner)
            calls += found
            texts.append(before.rstrip() if found else before + opened + inner + closed)
            self._held = after
        if at_end:
            after_call = (calls or self.calls) and not self._held.strip()
            texts.append("" if after_call else self._held)
            self._held = ""
        else:
            certain = _certain(self._held)
            texts.append(self._take(self._held[:certain], keep=self._held[certain:]))
        return Found("".join(texts), self._count(calls))

    def _take(self, text: str, keep: str) -> str:
        self._held = keep
        return text

    def _count(self, calls: "list[ToolCall] | tuple[ToolCall, ...]") -> tuple[ToolCall, ...]:
        """One call at most where only one is allowed."""
        kept = tuple(calls) if self._parallel else tuple(calls)[: max(0, 1 - self.calls)]
        self.calls += len(kept)
        return kept


def _certain(text: str) -> int:
    """How many characters can't belong to a tag, or to the white space before one."""
    end = len(text)
    for size in range(min(len(OPEN) - 1, len(text)), 0, -1):
        if text.endswith(OPEN[:size]):
            end -= size
            break
    return len(text[:end].rstrip())


def _documents(text: str) -> tuple[ToolCall, ...]:
    """The calls that a text consists of, separated by semicolons or white space; none if it holds anything else."""
    decoder = json.JSONDecoder(parse_constant=_no_number)
    calls: list[ToolCall] = []
    at = 0
    while True:
        while at < len(text) and text[at] in " \t\r\n;":
            at += 1
        if at == len(text):
            return tuple(calls)
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return ()
        call = _call(value)
        if call is None:
            return ()
        calls.append(call)


def _no_number(name: str) -> Any:
    raise ValueError(name)


def _call(value: Any) -> ToolCall | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):
        text = arguments
    elif isinstance(arguments, dict):
        text = json.dumps(arguments, ensure_ascii=False)
    else:
        return None
    return ToolCall(f"call_{secrets.token_hex(12)}", value["name"], text)

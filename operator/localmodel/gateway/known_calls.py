"""Calls that differ from an earlier one in their text only: what they ask for besides is not checked again.

Pure but for what it remembers. A client seldom changes its settings from one request to the next, and checking fifteen fields
that say what they said before took a tenth of a plain request. It must give what `parse_call` gives, errors included.
"""

from collections.abc import Mapping
from typing import Any

from localmodel.gateway.openai_messages import parse_messages, parse_prompt
from localmodel.gateway.openai_request import Call, Endpoint, parse_call

_MOST_CALLS = 512
_LONGEST_KEY = 512
_SETTINGS = frozenset(
    {
        "model", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "min_p", "presence_penalty",
        "frequency_penalty", "logprobs", "top_logprobs", "n", "best_of", "echo", "seed", "stop", "stream", "stream_options",
    }
)  # fmt: skip
"""Small ones, of which nothing is kept but their values."""
_WHOLE: dict[Endpoint, frozenset[str]] = {"chat": _SETTINGS | {"messages"}, "completions": _SETTINGS | {"prompt"}}
_TEXTS = ("messages", "prompt")

_Key = tuple[Endpoint, tuple[str, ...], int, str]


class KnownCalls:
    def __init__(self) -> None:
        self._calls: dict[_Key, Call] = {}

    def parse(self, endpoint: Endpoint, body: Mapping[str, Any], served: tuple[str, ...], vocabulary: int) -> Call:
        """As `parse_call`."""
        if not body.keys() <= _WHOLE[endpoint]:
            return parse_call(endpoint, body, served, vocabulary)
        # As text, because 1, 1.0 and true are the same key of a dict.
        said = repr([item for item in body.items() if item[0] not in _TEXTS])
        key = (endpoint, served, vocabulary, said)
        known = self._calls.get(key)
        if known is not None:
            if endpoint == "chat":
                return known.with_text(parse_messages(body), ())
            return known.with_text([], parse_prompt(body, vocabulary))
        call = parse_call(endpoint, body, served, vocabulary)
        if len(said) <= _LONGEST_KEY:
            if len(self._calls) >= _MOST_CALLS:
                self._calls.clear()
            self._calls[key] = call.with_text([], ())
        return call

"""Log-probabilities as OpenAI's two endpoints show them.

Pure, except for the tokenizer behind TokenTexts.
"""

import codecs
from collections.abc import Iterable
from typing import Any

from localmodel.api.events import TokenLogprob
from localmodel.gateway.token_texts import TokenTexts, shown

_OLD_MARK = "bytes:"


class ChatLogprobs:
    def __init__(self, tokens: TokenTexts) -> None:
        self._tokens = tokens

    def document(self, logprobs: Iterable[TokenLogprob]) -> dict[str, Any]:
        """A chat's `logprobs`."""
        content = [
            {**self._entry(row.token, row.logprob), "top_logprobs": [self._entry(token, value) for token, value in row.top]}
            for row in logprobs
        ]
        return {"content": content, "refusal": None}

    def _entry(self, token: int, logprob: float) -> dict[str, Any]:
        data = self._tokens.bytes(token)
        return {"token": shown(data), "logprob": logprob, "bytes": list(data)}


class CompletionLogprobs:
    """The old form: parallel lists. `text_offset` counts characters of the choice's own text, the prompt not included."""

    def __init__(self, tokens: TokenTexts) -> None:
        self._tokens = tokens
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def document(self, logprobs: Iterable[TokenLogprob]) -> dict[str, Any]:
        document: dict[str, Any] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for row in logprobs:
            data = self._tokens.bytes(row.token)
            text = shown(data, _OLD_MARK)
            likeliest = {shown(self._tokens.bytes(token), _OLD_MARK): value for token, value in row.top}
            document["tokens"].append(text)
            document["token_logprobs"].append(row.logprob)
            document["top_logprobs"].append({**likeliest, text: row.logprob})
            document["text_offset"].append(self._offset)
            self._offset += len(self._decoder.decode(data))
        return document

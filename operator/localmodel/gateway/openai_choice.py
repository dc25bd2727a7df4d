"""What the text of one choice means to a client of OpenAI's: content, tool calls, log-probabilities, and why it ended.

Pure. It knows nothing of streams or bodies; both are made of the deltas given here.
"""

from typing import Any, NamedTuple

from localmodel.gateway.logprobs import ChatLogprobs, CompletionLogprobs
from localmodel.gateway.openai_request import Call
from localmodel.gateway.pieces import Piece
from localmodel.gateway.token_texts import TokenTexts
from localmodel.gateway.tool_calls import ToolCall, ToolFormat, ToolReader


class Delta(NamedTuple):
    content: str
    calls: tuple[ToolCall, ...]
    logprobs: dict[str, Any] | None
    finish_reason: str


class Choice:
    """Reads one choice, piece by piece. `plain`: its pieces are its content, and there is nothing to read."""

    def __init__(self, call: Call, tool_format: ToolFormat | None, token_texts: TokenTexts | None) -> None:
        self._made_of = call, tool_format, token_texts
        self._reader = None
        if call.tools is not None and tool_format is not None:
            self._reader = ToolReader(tool_format, forced=bool(call.tools.forced), parallel=call.tools.parallel)
        self._logprobs: ChatLogprobs | CompletionLogprobs | None = None
        if call.sampling.logprobs is not None and token_texts is not None:
            self._logprobs = ChatLogprobs(token_texts) if call.endpoint == "chat" else CompletionLogprobs(token_texts)
        self.plain = self._reader is None and self._logprobs is None

    def again(self) -> "Choice":
        """One that has read nothing yet."""
        return Choice(*self._made_of)

    def no_logprobs(self) -> dict[str, Any] | None:
        """Those of an answer without a token, such as one that begins with a stop text; None if nobody wants any."""
        return self._logprobs.document(()) if self._logprobs else None

    def read(self, piece: Piece) -> Delta:
        content, finish = piece.text, piece.finish_reason
        calls: tuple[ToolCall, ...] = ()
        if self._reader is not None:
            content, calls = self._reader.feed(piece.text)
            if finish:
                rest, more = self._reader.end()
                content, calls = content + rest, calls + more
                if self._reader.calls and finish == "stop":
                    finish = "tool_calls"
        logprobs = self._logprobs.document(piece.logprobs) if self._logprobs and piece.logprobs else None
        return Delta(content, calls, logprobs, finish)


class Whole:
    """All deltas of one choice, put together."""

    def __init__(self, choice: Choice) -> None:
        self._choice = choice
        self._texts: list[str] = []
        self.calls: tuple[ToolCall, ...] = ()
        self.logprobs = choice.no_logprobs()
        self.finish_reason = ""

    @property
    def text(self) -> str:
        return "".join(self._texts)

    def add(self, piece: Piece) -> None:
        if self._choice.plain:
            self._texts.append(piece.text)
            self.finish_reason = piece.finish_reason
            return
        content, calls, logprobs, finish = self._choice.read(piece)
        self._texts.append(content)
        self.calls += calls
        self.finish_reason = finish
        if logprobs is not None and self.logprobs is not None:
            for name, rows in logprobs.items():
                if rows is not None:
                    self.logprobs[name] += rows

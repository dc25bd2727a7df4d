"""The text side of one sequence: from chosen tokens to the events that its reader gets.

Why it exists: text is made off the engine's thread, so what only text can decide (a stop string) is decided here, after
the engine may have computed a few tokens more; those are dropped and not counted.
"""

from collections.abc import Sequence as Ids

from tokenizers import Tokenizer

from localmodel.api.channel import FinishReason, SequenceEvent, Usage
from localmodel.engine.detokenizer import Detokenizer
from localmodel.engine.scheduler import Output
from localmodel.engine.stopping import StopCutter


class Answer:
    def __init__(self, id_: str, tokenizer: Tokenizer, prompt: Ids[int], stops: Ids[str]) -> None:
        self.id = id_
        self._prompt_tokens = len(prompt)
        self._tokens = 0
        self._detokenizer = Detokenizer(tokenizer, prompt)
        self._cutter = StopCutter(stops)
        self.finish: FinishReason | None = None

    def take(self, output: Output, error: str | None = None) -> SequenceEvent | None:
        """The news of one output; None after the end."""
        if self.finish:
            return None
        tokens = 0
        text = ""
        if output.token is not None:
            tokens = 1
            text = self._cutter.feed(self._detokenizer.feed([output.token]))
        if output.finish and not self._cutter.stopped:
            text += self._cutter.feed(self._detokenizer.flush())
            text += self._cutter.flush()
        self._tokens += tokens
        self.finish = "stop" if self._cutter.stopped else output.finish
        usage = Usage(self._prompt_tokens, self._tokens) if self.finish else None
        return SequenceEvent(self.id, text, tokens, self.finish, usage, error if self.finish == "error" else None)


def merge_events(first: SequenceEvent, second: SequenceEvent) -> SequenceEvent:
    """Two neighbouring events of one sequence as one."""
    return second._replace(text=first.text + second.text, tokens=first.tokens + second.tokens)

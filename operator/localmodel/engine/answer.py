"""The text side of one sequence: from chosen tokens to the events that its reader gets.

Why it exists: text is made off the engine's thread, so what only text can decide (a stop string) is decided here, after
the engine may have computed a few tokens more; those are dropped and not counted.
"""

from collections.abc import Sequence as Ids

from tokenizers import Tokenizer

from localmodel.api.events import FinishReason, SequenceEvent, TokenLogprob, Usage
from localmodel.engine.detokenizer import Detokenizer
from localmodel.engine.logprob_queue import LogprobQueue
from localmodel.engine.plain_tokens import PlainTokens
from localmodel.engine.sequence import Output, new_tuple
from localmodel.engine.stopping import StopCutter


class Answer:
    def __init__(
        self, id_: str, tokenizer: Tokenizer, prompt: Ids[int], stops: Ids[str], plain: PlainTokens | None = None
    ) -> None:
        """`plain`: of the same tokenizer, shared by all answers."""
        self.id = id_
        self._prompt_tokens = len(prompt)
        self._tokens = 0
        self._detokenizer = Detokenizer(tokenizer, prompt)
        self._cutter = StopCutter(stops)
        self._plain = plain
        self._stops = bool(stops)
        self._logprobs = LogprobQueue()
        self._made = 0
        """Characters that came from tokens; some of them may be held back."""
        self._out = 0
        self.finish: FinishReason | None = None

    def take(self, output: Output, error: str | None = None) -> SequenceEvent | None:
        """The news of one output; None after the end. `error` explains an end with `error` that does not explain itself."""
        plain = self._plain
        if plain is not None:
            _, token, finish, logprob, _ = output
            if finish is None and logprob is None and token is not None:
                text = plain[token]
                if text and self._detokenizer.feed_plain(token):
                    self._tokens += 1
                    if self._stops:
                        text = self._cutter.feed(text)
                        if self._cutter.stopped:
                            return self._end(text, 1, "stop")
                    return new_tuple(SequenceEvent, (self.id, text, 1, None, None, None, ()))
        return self._take(output, error)

    def _take(self, output: Output, error: str | None) -> SequenceEvent | None:
        if self.finish:
            return None
        tokens = 0
        text = ""
        if output.token is not None:
            tokens = 1
            if output.finish != "stop":  # a stop token is no part of the text, also where the tokenizer doesn't call it special
                if output.logprob:
                    self._logprobs.add(output.logprob, self._made)
                text = self._cut(self._decode(output.token))
                if not self._detokenizer.holding:
                    self._logprobs.settle(self._made)
        if output.finish and not self._cutter.stopped:
            text += self._cut(self._detokenizer.flush())
            text += self._cutter.flush()
            self._logprobs.settle(self._made)
        self._out += len(text)
        logprobs = self._logprobs.take(self._out)
        if self._cutter.stopped:
            logprobs += self._logprobs.cut(self._out)
        self._tokens += tokens
        finish = "stop" if self._cutter.stopped else output.finish
        if finish is None:
            return SequenceEvent(self.id, text, tokens, logprobs=logprobs)
        return self._end(text, tokens, finish, (output.error or error) if finish == "error" else None, logprobs)

    def _end(
        self, text: str, tokens: int, finish: FinishReason, error: str | None = None, logprobs: tuple[TokenLogprob, ...] = ()
    ) -> SequenceEvent:
        self.finish = finish
        self._plain = None
        return SequenceEvent(self.id, text, tokens, finish, Usage(self._prompt_tokens, self._tokens), error, logprobs)

    def _decode(self, token: int) -> str:
        if self._plain is not None and (text := self._plain[token]) and self._detokenizer.feed_plain(token):
            return text
        return self._detokenizer.feed([token])

    def _cut(self, piece: str) -> str:
        self._made += len(piece)
        return self._cutter.feed(piece)


def merge_events(first: SequenceEvent, second: SequenceEvent) -> SequenceEvent:
    """Two neighbouring events of one sequence as one."""
    id_, text, tokens, finish, usage, error, logprobs = second
    return new_tuple(
        SequenceEvent, (id_, first.text + text, first.tokens + tokens, finish, usage, error, first.logprobs + logprobs)
    )

"""Every sequence this gateway has in the engine, from before its submit until the engine has ended it.

A sequence whose request is over (client gone, timeout, failure) stays here, and keeps its slot, until the engine ends it
or confirms the cancel. Counts the tokens made for nobody.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Mapping
from time import monotonic

from localmodel.api import channel
from localmodel.api.events import SequenceEvent
from localmodel.gateway import errors
from localmodel.gateway.backend_errors import Refused
from localmodel.gateway.channel import NO_HEADERS, Channel
from localmodel.gateway.failures import submit_error
from localmodel.gateway.mailbox import Mailbox
from localmodel.gateway.submits import Submits


class Sequence:
    __slots__ = ("_on_end", "abandoned", "accepted", "ended", "id", "mailbox", "sent_at", "settled")

    def __init__(self, sequence_id: str, on_end: Callable[[], None]) -> None:
        self.id = sequence_id
        self.mailbox = Mailbox()
        self.sent_at = monotonic()
        self.settled = False
        """The submit has been answered or has failed: a cancel sent now can't overtake it."""
        self.accepted = False
        """The engine has said that it takes the prompt; its first events may come before that."""
        self.ended = False
        self.abandoned = False
        self._on_end = on_end

    def end(self) -> None:
        self.ended = True
        self.mailbox.close()
        self._on_end()


class Sequences:
    def __init__(self, link: Channel, on_wasted: Callable[[int], None]) -> None:
        self._submits = Submits(link, lambda: self.epoch)
        self._live: dict[str, Sequence] = {}
        self._numbers = itertools.count(1)
        self._on_wasted = on_wasted
        self.epoch = 0
        """Of the open event stream; a submit names it."""
        self.cancel_wanted = asyncio.Event()

    def __len__(self) -> int:
        return len(self._live)

    def start(
        self,
        prompt: tuple[int, ...],
        sampling: channel.Sampling,
        deadline_seconds: float,
        on_end: Callable[[], None],
        trace: Mapping[str, str] = NO_HEADERS,
    ) -> Sequence:
        """Registers and submits; the answer, good or bad, comes through the mailbox. `on_end` is called exactly once, whatever
        happens."""
        sequence = Sequence(f"s{next(self._numbers)}", on_end)
        try:
            request = channel.NewSequence(
                id=sequence.id, prompt=prompt, sampling=sampling, deadline_seconds=max(deadline_seconds, 0.001)
            )
        except ValueError:
            on_end()
            raise
        self._live[sequence.id] = sequence
        self._submits.add(request, trace, lambda error: self._answered(sequence, error))
        return sequence

    def _answered(self, sequence: Sequence, error: Exception | None) -> None:
        sequence.settled = True
        sequence.accepted = error is None
        if error is not None:
            sequence.mailbox.fail(submit_error(error))
        if isinstance(error, Refused):
            self._end(sequence)
        if sequence.abandoned:
            self.cancel_wanted.set()

    def apply(self, events: Iterable[SequenceEvent]) -> None:
        """News from the event stream. Of a sequence that is not known (any more) nothing is owed to anybody."""
        live, now = self._live, monotonic()
        for event in events:
            sequence = live.get(event.id)
            if sequence is None:
                continue
            if sequence.abandoned:
                self._on_wasted(event.tokens)
            else:
                sequence.mailbox.put(event, now)
            if event.finish_reason is not None:
                self._end(sequence)

    def abandon(self, sequence: Sequence) -> None:
        """Nobody waits for it any more: cancel it unless the engine has ended it."""
        if unread := sequence.mailbox.drop():
            self._on_wasted(unread)
        if sequence.ended or sequence.abandoned:
            return
        sequence.abandoned = True
        if sequence.settled:
            self.cancel_wanted.set()

    def fail_all(self, error: errors.ApiError) -> None:
        """Wakes every waiting request with this error; their slots stay taken until the engine speaks."""
        for sequence in list(self._live.values()):
            sequence.mailbox.fail(error)

    def keep_only(self, ids: set[str]) -> None:
        """The engine knows just these any more: the others are gone, and their requests must hear it."""
        for sequence in [s for s in self._live.values() if s.settled and s.id not in ids]:
            sequence.mailbox.fail(errors.upstream("It lost this request when it restarted.", resend=True))
            self._end(sequence)

    def cancellable(self) -> tuple[str, ...]:
        return tuple(s.id for s in self._live.values() if s.abandoned and s.settled)

    def confirmed(self, ids: Iterable[str]) -> None:
        for sequence_id in ids:
            sequence = self._live.get(sequence_id)
            if sequence is not None and sequence.abandoned:
                self._end(sequence)

    def _end(self, sequence: Sequence) -> None:
        if self._live.pop(sequence.id, None) is not None:
            sequence.end()

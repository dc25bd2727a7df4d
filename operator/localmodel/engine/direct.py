"""One `generate` request of a direct client: its own decoupled stream instead of a gateway's events.

Why it exists: Triton's own clients need no gateway, and use the same engine through another sink. It knows nothing of
tokens or epochs.
"""

from dataclasses import dataclass

from localmodel.api.channel import Generated
from localmodel.api.events import SequenceEvent
from localmodel.engine.answer import merge_events
from localmodel.engine.gateways import Stream


@dataclass
class Direct:
    stream: Stream
    streaming: bool
    """False: exactly one response, at the end."""
    pending: SequenceEvent | None = None
    polled_at: float = 0.0

    def add(self, event: SequenceEvent) -> None:
        self.pending = merge_events(self.pending, event) if self.pending else event

    def pop_due(self) -> Generated | None:
        """What to send now, if anything: text as it comes, or everything with the finish reason."""
        event = self.pending
        if event is None or (event.finish_reason is None and not (self.streaming and event.text)):
            return None
        self.pending = None
        usage = event.usage
        return Generated(
            text=event.text,
            finish_reason=event.finish_reason,
            prompt_tokens=usage.prompt_tokens if usage else None,
            completion_tokens=usage.completion_tokens if usage else None,
            error=event.error,
            logprobs=event.logprobs or None,
        )

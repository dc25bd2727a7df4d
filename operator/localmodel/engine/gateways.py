"""Which gateway processes are connected, what each owns, and when what it owns must end.

Why it exists: the rules of epochs, take-over and grace in one place, with the clock passed in. A gateway is one instance
id; its event stream is one epoch of it. Nothing here sends: streams are handed back to the caller to speak to or close.
"""

from dataclasses import dataclass, field
from typing import Protocol

from localmodel.engine.errors import Refused
from localmodel.engine.outbox import Outbox

REMEMBERED_IDS = 4096


class Stream(Protocol):
    """One open request of Triton that can still be answered."""

    def send(self, text: str, *, final: bool = False) -> None: ...

    def close(self) -> None: ...

    def is_cancelled(self) -> bool: ...


@dataclass
class Gateway:
    instance: str
    epoch: int = -1
    stream: Stream | None = None
    greeting_after: int | None = None
    """The `after` of a stream that has not had its first response yet."""
    outbox: Outbox = field(default_factory=Outbox)
    running: set[str] = field(default_factory=set)
    ended: dict[str, None] = field(default_factory=dict)
    """The last ids whose repeated submit must start nothing, oldest first."""
    cut_at: float | None = None
    sent_at: float = 0.0
    ran_ahead: bool = False
    """The last batch went before the rest of its step, which may follow at once."""
    polled_at: float = 0.0

    def knows(self, id_: str) -> bool:
        return id_ in self.running or id_ in self.ended

    def end(self, id_: str) -> None:
        self.running.discard(id_)
        self.ended[id_] = None
        if len(self.ended) > REMEMBERED_IDS:
            del self.ended[next(iter(self.ended))]


class Gateways:
    def __init__(self, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._gateways: dict[str, Gateway] = {}

    def all(self) -> list[Gateway]:
        return list(self._gateways.values())

    def connect(self, instance: str, epoch: int, after: int, stream: Stream) -> Stream | None:
        """Makes `stream` the event stream of `instance`; returns the one it replaces. Raises Refused for an older epoch."""
        gateway = self._gateways.get(instance) or Gateway(instance)
        if epoch <= gateway.epoch:
            raise Refused("stale_epoch", f"epoch {epoch} of {instance} is not newer than {gateway.epoch}")
        self._gateways[instance] = gateway
        replaced, gateway.stream = gateway.stream, stream
        gateway.epoch = epoch
        gateway.greeting_after = after
        gateway.cut_at = None
        return replaced

    def owner(self, instance: str, epoch: int) -> Gateway:
        """The gateway that may submit. Raises Refused."""
        gateway = self._gateways.get(instance)
        if gateway is None or gateway.stream is None:
            raise Refused("no_event_stream", f"{instance} has no open event stream; open `events` first")
        if epoch != gateway.epoch:
            raise Refused("stale_epoch", f"the event stream of {instance} has epoch {gateway.epoch}, not {epoch}")
        return gateway

    def cut(self, gateway: Gateway, now: float) -> None:
        """The gateway's stream is gone; from now on the grace runs."""
        gateway.stream = None
        gateway.cut_at = now

    def pop_expired(self, now: float) -> list[Gateway]:
        """Gateways whose grace is over; they are forgotten, the caller ends what they own."""
        late = [g for g in self.all() if g.cut_at is not None and now - g.cut_at >= self._grace_seconds]
        for gateway in late:
            del self._gateways[gateway.instance]
        return late

"""Sends what is due on every long stream: batches of events, heartbeats, direct answers; and notices who has left.

Why it exists: all sending on long streams happens here, from one thread, so that a slow send never delays a step and
events keep their order. The clock is passed in.
"""

import msgspec

from localmodel.api.channel import HEARTBEAT_SECONDS, MIN_EVENT_GAP_SECONDS
from localmodel.api.events import EventBatch, encode_batch
from localmodel.engine.channel import Channel
from localmodel.engine.gateways import Gateway, Stream

_encode = msgspec.json.Encoder().encode
POLL_SECONDS = 0.02
"""Between two questions to Triton whether a stream's client has left; each is a round trip to the server."""


class Pump:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def run(self, now: float, step_age_seconds: float, failure: str = "") -> float:
        """Sends what is due at `now`; returns after how many seconds something may be due again. `failure`: last words."""
        channel = self._channel
        sends: list[tuple[Gateway, Stream, str]] = []
        polls: list[tuple[Gateway, Stream]] = []
        wait = HEARTBEAT_SECONDS
        with channel.lock:
            closing, channel.closing = channel.closing, []
            for gateway in channel.gateways.pop_expired(now):
                channel.drop(gateway)
            for gateway in channel.gateways.all():
                if gateway.stream is None:
                    continue
                batch = self._due(gateway, now)
                if batch:
                    gateway.sent_at = now
                    document = encode_batch(batch._replace(step_age_seconds=step_age_seconds, failure=failure))
                    sends.append((gateway, gateway.stream, _encode(document).decode()))
                elif gateway.outbox.pending:
                    wait = min(wait, gateway.sent_at + MIN_EVENT_GAP_SECONDS - now)
                if now - gateway.polled_at >= POLL_SECONDS:
                    gateway.polled_at = now
                    polls.append((gateway, gateway.stream))
                wait = min(wait, POLL_SECONDS)
        for stream in closing:
            stream.close()
        left = [(gateway, stream) for gateway, stream, text in sends if not _sent(stream, text)]
        left += [(gateway, stream) for gateway, stream in polls if stream.is_cancelled()]
        for gateway, stream in left:
            stream.close()
            with channel.lock:
                if gateway.stream is stream:
                    channel.gateways.cut(gateway, now)
        return min(wait, self._run_directs(now))

    def close_all(self) -> None:
        """Ends every stream without another word."""
        channel = self._channel
        with channel.lock:
            streams = [gateway.stream for gateway in channel.gateways.all() if gateway.stream]
            streams += [direct.stream for direct in channel.directs.values()]
            streams += channel.closing
            for gateway in channel.gateways.all():
                gateway.stream = None
            channel.directs.clear()
            channel.closing.clear()
        for stream in streams:
            stream.close()

    def _due(self, gateway: Gateway, now: float) -> EventBatch | None:
        """The caller holds the lock."""
        outbox = gateway.outbox
        if gateway.greeting_after is not None:
            after, gateway.greeting_after = gateway.greeting_after, None
            batch = outbox.after(after)
            if batch is None:
                self._channel.drop(gateway)
            return batch or EventBatch(outbox.number, 0.0, True, ())
        since = now - gateway.sent_at
        if outbox.pending:
            return outbox.make_batch() if since >= MIN_EVENT_GAP_SECONDS else None
        return EventBatch(outbox.number, 0.0, False, ()) if since >= HEARTBEAT_SECONDS else None

    def _run_directs(self, now: float) -> float:
        channel = self._channel
        with channel.lock:
            directs = list(channel.directs.items())
        for key, direct in directs:
            with channel.lock:
                answer = direct.pop_due()
            finished = answer is not None and answer.finish_reason is not None
            left = answer is not None and not _sent(direct.stream, answer.model_dump_json(exclude_none=True), final=finished)
            if not finished and not left and now - direct.polled_at >= POLL_SECONDS:
                direct.polled_at = now
                left = direct.stream.is_cancelled()
            if left and not finished:
                direct.stream.close()
            if left or finished:
                with channel.lock:
                    channel.drop_sequence(key)
                    del channel.directs[key]
        return POLL_SECONDS if directs else HEARTBEAT_SECONDS


def _sent(stream: Stream, text: str, *, final: bool = False) -> bool:
    """False if the server refused it: the client has left."""
    try:
        stream.send(text, final=final)
    except Exception:
        return False
    return True

"""Sends what is due on every long stream: batches of events, heartbeats, direct answers; and notices who has left.

Why it exists: all sending on long streams happens here, from one thread, so that a slow send never delays a step and
events keep their order. The clock is passed in.
"""

import msgspec

from localmodel.api.channel import HEARTBEAT_SECONDS, MIN_EVENT_GAP_SECONDS
from localmodel.api.events import EventBatch, encode_batch
from localmodel.engine.channel import Channel
from localmodel.engine.gateways import Gateway, Stream
from localmodel.engine.sequence import Output

Send = tuple[Gateway, Stream, str]
_encode = msgspec.json.Encoder().encode
POLL_SECONDS = 0.02
"""Between two questions to Triton whether a stream's client has left; each is a round trip to the server."""


class Pump:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def run(self, now: float, step_age_seconds: float, failure: str = "") -> float:
        """Sends what is due at `now`; returns after how many seconds something may be due again. `failure`: last words."""
        channel = self._channel
        sends: list[Send] = []
        polls: list[tuple[Gateway, Stream]] = []
        wait = HEARTBEAT_SECONDS
        with channel.lock:
            closing, channel.closing = channel.closing, []
            for gateway in channel.gateways.pop_expired(now):
                channel.forget(gateway)
            for gateway in channel.gateways.all():
                if gateway.stream is None:
                    continue
                batch = self._due(gateway, now)
                gateway.ran_ahead = False
                if batch:
                    gateway.sent_at = now
                    sends.append((gateway, gateway.stream, _compose(batch, step_age_seconds, failure)))
                elif gateway.outbox.pending:
                    wait = min(wait, gateway.sent_at + MIN_EVENT_GAP_SECONDS - now)
                if now - gateway.polled_at >= POLL_SECONDS:
                    gateway.polled_at = now
                    polls.append((gateway, gateway.stream))
                wait = min(wait, POLL_SECONDS)
        for stream in closing:
            stream.close()
        self._send(sends, now)
        for gateway, stream in polls:
            if stream.is_cancelled():
                self._cut(gateway, stream, now)
        return min(wait, self._run_directs(now))

    def run_ahead(self, outputs: list[Output], now: float, step_age_seconds: float) -> list[Output]:
        """Sends first tokens among `outputs` before text is made of many others, which the next `run` sends without a gap.

        Returns what is left to be delivered; `outputs` itself if nothing goes ahead.
        """
        first = self._channel.deliver_first(outputs)
        if not first:
            return outputs
        sends: list[Send] = []
        with self._channel.lock:
            for gateway in self._channel.gateways.all():
                if gateway.stream is None or gateway.greeting_after is not None or now - gateway.sent_at < MIN_EVENT_GAP_SECONDS:
                    continue
                if batch := gateway.outbox.make_batch():
                    gateway.sent_at = now
                    gateway.ran_ahead = True
                    sends.append((gateway, gateway.stream, _compose(batch, step_age_seconds)))
        self._send(sends, now)
        return [output for output in outputs if output.key not in first]

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

    def _send(self, sends: list[Send], now: float) -> None:
        for gateway, stream, text in sends:
            if not _sent(stream, text):
                self._cut(gateway, stream, now)

    def _cut(self, gateway: Gateway, stream: Stream, now: float) -> None:
        stream.close()
        with self._channel.lock:
            if gateway.stream is stream:
                self._channel.gateways.cut(gateway, now)

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
            return outbox.make_batch() if since >= MIN_EVENT_GAP_SECONDS or gateway.ran_ahead else None
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


def _compose(batch: EventBatch, step_age_seconds: float, failure: str = "") -> str:
    document = encode_batch(batch._replace(step_age_seconds=step_age_seconds, failure=failure))
    return _encode(document).decode()


def _sent(stream: Stream, text: str, *, final: bool = False) -> bool:
    """False if the server refused it: the client has left."""
    try:
        stream.send(text, final=final)
    except Exception:
        return False
    return True

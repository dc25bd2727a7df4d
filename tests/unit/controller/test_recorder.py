"""Events: posted once, repeated as a series, never in the way."""

import asyncio
import datetime
from typing import Any

from localmodel.controller.cluster import Cluster
from localmodel.controller.connection import ApiError
from localmodel.controller.recorder import Recorder
from localmodel.core.transitions import EventNote
from simulation.fake_connection import FakeConnection
from simulation.world import build_model

NOTE = EventNote("Warning", "LoadFailed", "said " * 500)


async def settle() -> None:
    """Nothing here waits for anything but its turn."""
    for _ in range(100):
        await asyncio.sleep(0)


async def record(connection: FakeConnection, *notes: EventNote) -> list[tuple[str, Any]]:
    cluster = Cluster(connection, may_write_for=lambda: 2, count_write=lambda *_: None, request_timeout_seconds=1)
    recorder = Recorder(cluster, replica="r", wall_clock=lambda: datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))
    task = asyncio.create_task(recorder.run())
    for note in notes:
        recorder.record(build_model(), note)
    await settle()
    task.cancel()
    return [(method, body) for method, _, body in connection.requests]


async def test_once_then_a_series() -> None:
    (first, event), (second, change), (_, last) = await record(FakeConnection(), NOTE, NOTE, NOTE)
    assert (first, second) == ("POST", "PATCH")
    assert event["regarding"]["name"] == "chat" and len(event["note"]) <= 1024 and event["type"] == "Warning"
    assert (change["series"]["count"], last["series"]["count"]) == (2, 3)


async def test_an_event_of_an_earlier_process_becomes_a_series() -> None:
    connection = FakeConnection()
    connection.errors.append(ApiError(409, "already exists"))
    (_, _), (method, change) = await record(connection, NOTE)
    assert method == "PATCH" and change["series"]["count"] == 2


async def test_an_event_that_has_expired_meanwhile_is_made_anew() -> None:
    """The API server forgets Events after an hour."""
    connection = FakeConnection()
    await record(connection, NOTE)
    connection.requests.clear()
    cluster = Cluster(connection, may_write_for=lambda: 2, count_write=lambda *_: None, request_timeout_seconds=1)
    recorder = Recorder(cluster, replica="r", wall_clock=lambda: datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))
    task = asyncio.create_task(recorder.run())
    recorder.record(build_model(), NOTE)
    await settle()
    connection.errors.append(ApiError(404, "not found"))
    connection.objects.clear()
    recorder.record(build_model(), NOTE)
    recorder.record(build_model(), NOTE)
    await settle()
    task.cancel()
    methods = [method for method, _, _ in connection.requests]
    assert methods[-3:] == ["PATCH", "POST", "PATCH"] and connection.requests[-1][2]["series"]["count"] == 2


async def test_a_refused_event_stops_nothing() -> None:
    connection = FakeConnection()
    connection.errors.append(ApiError(403, "no"))
    other = EventNote("Normal", "Ready", "x")
    assert [body["reason"] for _, body in await record(connection, NOTE, other)] == ["LoadFailed", "Ready"]

"""The port: no write without the lease, nothing outside the table, deletions of exactly one object."""

import pytest

from localmodel.controller.cluster import Cluster, NotLeader
from localmodel.controller.connection import ApiError
from localmodel.core.kinds import CONFIG_MAP, DEPLOYMENT, Kind
from simulation.fake_connection import FakeConnection

SERVICE = {"kind": "Service", "metadata": {"name": "chat", "namespace": "llm"}}


def build(connection: FakeConnection, lease_seconds: float = 2.0) -> tuple[Cluster, list[tuple[str, str]]]:
    writes: list[tuple[str, str]] = []
    cluster = Cluster(
        connection,
        may_write_for=lambda: lease_seconds,
        count_write=lambda verb, resource: writes.append((verb, resource)),
        request_timeout_seconds=10,
    )
    return cluster, writes


async def test_without_the_lease_nothing_is_sent() -> None:
    connection = FakeConnection()
    cluster, writes = build(connection, lease_seconds=0)
    for attempt in (
        cluster.apply(SERVICE),
        cluster.apply_status("llm", "chat", "u", {}),
        cluster.delete(CONFIG_MAP, "llm", "x", "u"),
        cluster.create_event({"metadata": {"name": "e", "namespace": "llm"}}),
    ):
        with pytest.raises(NotLeader):
            await attempt
    assert connection.requests == [] and writes == []


async def test_a_write_names_us_and_ends_with_the_lease() -> None:
    connection = FakeConnection()
    cluster, writes = build(connection, lease_seconds=1.5)
    await cluster.apply(SERVICE)
    [(method, path, body)] = connection.requests
    assert (method, body) == ("PATCH", SERVICE) and writes == [("patch", "services")]
    assert path == "/api/v1/namespaces/llm/services/chat?fieldManager=localmodel-operator&force=true&timeout=1.500s"


async def test_what_the_table_does_not_name_is_refused_here() -> None:
    connection = FakeConnection()
    cluster, _ = build(connection)
    with pytest.raises(PermissionError):
        await cluster.delete(DEPLOYMENT, "llm", "chat", "u")
    with pytest.raises(PermissionError):
        await cluster.find(Kind("Secret", "", "v1", "secrets"), "llm", "x")
    assert connection.requests == []


@pytest.mark.parametrize("status", [404, 409])
async def test_an_object_that_is_gone_or_another_is_deleted_enough(status: int) -> None:
    connection = FakeConnection()
    connection.errors.append(ApiError(status, "x"))
    cluster, _ = build(connection)
    await cluster.delete(CONFIG_MAP, "llm", "x", "the-uid")
    assert connection.requests[0][2]["preconditions"] == {"uid": "the-uid"}


async def test_a_name_that_is_free_is_none() -> None:
    cluster, _ = build(FakeConnection())
    assert await cluster.find(CONFIG_MAP, "llm", "x") is None

"""Leader election turned by hand: never two leaders, whoever is cut off, paused or has a wrong clock."""

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmodel.controller.connection import ApiError
from localmodel.controller.lease import Elector
from localmodel.controller.settings import LeaseSettings
from simulation.fake_connection import FakeConnection

SETTINGS = LeaseSettings(duration_seconds=3, renew_deadline_seconds=2, retry_seconds=0.5)
PATH = "/apis/coordination.k8s.io/v1/namespaces/ops/leases/localmodel-operator"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.wall = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


class Reachable(FakeConnection):
    """One replica's own way to the shared server: it can be cut without the others noticing."""

    def __init__(self, server: FakeConnection) -> None:
        super().__init__()
        self._server = server

    async def request(self, *args: Any, **options: Any) -> tuple[int, dict[str, Any]]:
        if self.cut:
            raise ApiError(0, "cut off")
        return await self._server.request(*args, **options)


def build(server: FakeConnection, clock: Clock, name: str) -> tuple[Elector, Reachable, list[str]]:
    elections: list[str] = []
    way = Reachable(server)
    elector = Elector(
        way,
        SETTINGS,
        namespace="ops",
        replica=name,
        on_elected=lambda: elections.append(name),
        monotonic=lambda: clock.now,
        wall_clock=lambda: clock.wall,
    )
    return elector, way, elections


async def test_first_come_and_the_second_waits() -> None:
    server, clock = FakeConnection(), Clock()
    (a, _, elected_a), (b, _, elected_b) = build(server, clock, "a"), build(server, clock, "b")
    await a.attempt()
    await b.attempt()
    assert a.may_write_for() == 2 and b.may_write_for() == 0 and (elected_a, elected_b) == (["a"], [])
    for _ in range(20):
        clock.now += 0.5
        await a.attempt()
        await b.attempt()
        assert b.may_write_for() == 0
    assert elected_a == ["a"], "a renewal is no election"
    assert server.objects[PATH]["spec"]["leaseTransitions"] == 0


async def test_a_dead_leader_is_replaced_within_duration_and_retry() -> None:
    server, clock = FakeConnection(), Clock()
    (a, way_a, _), (b, _, elected) = build(server, clock, "a"), build(server, clock, "b")
    await a.attempt()
    await b.attempt()
    way_a.cut = True
    for _ in range(7):
        clock.now += 0.5
        await a.attempt()
        await b.attempt()
    assert elected == ["b"] and a.may_write_for() == 0 < b.may_write_for()
    way_a.cut = False
    await a.attempt()
    assert a.may_write_for() == 0, "who comes back does not take it away"


async def test_a_leader_that_was_frozen_learns_that_it_lost() -> None:
    server, clock = FakeConnection(), Clock()
    (a, _, _), (b, _, _) = build(server, clock, "a"), build(server, clock, "b")
    await a.attempt()
    await b.attempt()
    clock.now += 3.1
    await b.attempt()
    assert a.may_write_for() == 0 < b.may_write_for()
    await a.attempt()
    assert a.may_write_for() == 0


async def test_release_lets_the_next_one_in_at_once() -> None:
    server, clock = FakeConnection(), Clock()
    (a, _, _), (b, _, _) = build(server, clock, "a"), build(server, clock, "b")
    await a.attempt()
    await b.attempt()
    await a.release()
    assert a.may_write_for() == 0
    await b.attempt()
    assert b.may_write_for() > 0


async def test_a_lease_that_was_deleted_is_nobodys_until_its_holder_must_know() -> None:
    server, clock = FakeConnection(), Clock()
    (a, _, _), (b, _, elected) = build(server, clock, "a"), build(server, clock, "b")
    await a.attempt()
    await b.attempt()
    del server.objects[PATH]
    await b.attempt()
    assert b.may_write_for() == 0 < a.may_write_for()
    await a.attempt()
    assert a.may_write_for() == 0, "it is not there any more"
    clock.now += 3.1
    await b.attempt()
    assert elected == ["b"] and b.may_write_for() > 0
    await a.attempt()
    assert a.may_write_for() == 0


async def test_a_clock_that_jumps_changes_nothing() -> None:
    server, clock = FakeConnection(), Clock()
    (a, _, elected_a), (b, _, elected_b) = build(server, clock, "a"), build(server, clock, "b")
    for minutes in (0, 10, -10, 600):
        clock.wall += datetime.timedelta(minutes=minutes)
        clock.now += 0.5
        await a.attempt()
        await b.attempt()
    assert (elected_a, elected_b) == (["a"], [])


async def test_a_restarted_process_is_another_holder() -> None:
    server, clock = FakeConnection(), Clock()
    a, again = build(server, clock, "a")[0], build(server, clock, "a")[0]
    await a.attempt()
    await again.attempt()
    assert again.may_write_for() == 0 and a.identity != again.identity


@pytest.mark.parametrize("error", [ApiError(500, "x"), ApiError(0, "x"), ApiError(409, "x")])
async def test_errors_never_raise_and_never_prolong(error: ApiError) -> None:
    server, clock = FakeConnection(), Clock()
    a, _, _ = build(server, clock, "a")
    await a.attempt()
    clock.now += 1.5
    server.errors.append(error)
    await a.attempt()
    assert a.may_write_for() <= 0.5


STEPS = st.tuples(
    st.sampled_from("ab"),
    st.sampled_from(["attempt"] * 5 + ["cut", "heal", "release", "delete"]),
    st.sampled_from([0.1, 0.5, 1.9, 2.1, 2.9, 3.1]),
)


@given(st.lists(STEPS, min_size=3, max_size=40))
async def test_never_two_leaders(steps: list[tuple[str, str, float]]) -> None:
    server, clock = FakeConnection(), Clock()
    replicas = {name: build(server, clock, name) for name in "ab"}
    for elector, _, _ in replicas.values():
        await elector.attempt()
    for name, step, pause in steps:
        clock.now += pause
        elector, way, _ = replicas[name]
        if step == "attempt":
            await elector.attempt()
        elif step == "release":
            await elector.release()
        elif step == "delete":
            server.objects.pop(PATH, None)
        else:
            way.cut = step == "cut"
        assert sum(each.may_write_for() > 0 for each, _, _ in replicas.values()) <= 1


async def test_each_loss_is_told_even_of_a_lease_that_is_got_back_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """A replica that was too slow to renew: nobody else took the lease, and yet it wrote nothing for a while."""
    clock = Clock()
    a, _, elections = build(FakeConnection(), clock, "a")
    for _ in range(3):
        await a.attempt()
        clock.now += SETTINGS.renew_deadline_seconds + 0.1
    assert elections == ["a"] * 3
    assert [record.message for record in caplog.records] == ["lost the lease: not renewed within 2 seconds"] * 2
    await a.attempt()
    caplog.clear()
    await a.release()
    await a.attempt()
    assert caplog.records == [], "given away is not lost"

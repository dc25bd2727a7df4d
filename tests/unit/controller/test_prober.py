"""The prober against real sockets: what counts as an answer, as silence, and as news."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from gateway.conftest import eventually
from localmodel.controller.prober import Prober
from localmodel.controller.settings import ProberSettings
from localmodel.controller.store import Key, Store
from localmodel.core.observe import Pod
from simulation.fake_gateway import FakeGateway, build_report

KEY: Key = ("llm", "chat")
SETTINGS = ProberSettings(unsettled_seconds=0.05, settled_seconds=0.05, timeout_seconds=30, settled_per_second=1000)


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    server = FakeGateway(build_report("p0"))
    yield server
    server.close()


def put_pod(store: Store, ip: str, name: str = "p0") -> Pod:
    metadata = {"name": name, "namespace": "llm", "labels": {"localmodel.dev/name": "chat"}, "resourceVersion": "1"}
    conditions = [{"type": "Ready", "status": "True"}]
    store.put("Pod", {"metadata": metadata, "status": {"podIP": ip, "phase": "Running", "conditions": conditions}})
    pod = store.pod(KEY, name)
    assert pod
    return pod


@contextlib.asynccontextmanager
async def running(
    store: Store, news: list[Any], *, is_leader: Callable[[], bool] = lambda: True, settings: ProberSettings = SETTINGS
) -> AsyncIterator[Prober]:
    prober = Prober(store, settings, on_change=news.append, is_leader=is_leader)
    task = asyncio.create_task(prober.run())
    await asyncio.sleep(0)
    yield prober
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_nobody_is_judged_unheard_and_only_news_wakes(gateway: FakeGateway) -> None:
    store, news = Store(), []
    pod = put_pod(store, gateway.ip)
    async with running(store, news) as prober:
        reports = await prober.reports(KEY, (pod,))
        assert reports["p0"] and reports["p0"].ready
        await asyncio.sleep(0.3)
        assert news == []
        gateway.report = build_report("p0", "LoadFailed", "x")
        await eventually(lambda: news == [KEY])
        assert (await prober.reports(KEY, (pod,)))["p0"].backend.message == "x"  # type: ignore[union-attr]


async def test_silence_counts_the_second_time(gateway: FakeGateway) -> None:
    store, news = Store(), []
    pod = put_pod(store, gateway.ip)
    async with running(store, news) as prober:
        await prober.reports(KEY, (pod,))
        gateway.close()
        await eventually(lambda: news == [KEY])
        assert await prober.reports(KEY, (pod,)) == {"p0": None}


async def test_who_was_silent_once_is_asked_again_soon(gateway: FakeGateway) -> None:
    """Of a settled pod, too: until it is sure, a model is called ready whose node may be lost."""
    store, news = Store(), []
    pod = put_pod(store, gateway.ip)
    async with running(store, news, settings=SETTINGS.model_copy(update={"settled_seconds": 600})) as prober:
        await prober.reports(KEY, (pod,))
        gateway.close()
        await eventually(lambda: news == [KEY])


async def test_an_answer_may_come_in_pieces(gateway: FakeGateway) -> None:
    gateway.pause_seconds = 0.05
    store = Store()
    pod = put_pod(store, gateway.ip)
    async with running(store, []) as prober:
        report = (await prober.reports(KEY, (pod,)))["p0"]
    assert report and report.ready


async def test_an_answer_without_end_is_none(gateway: FakeGateway) -> None:
    gateway.report = build_report("p0", message="x" * (1 << 21))
    store = Store()
    pod = put_pod(store, gateway.ip)
    async with running(store, []) as prober:
        assert await prober.reports(KEY, (pod,)) == {"p0": None}


async def test_the_answer_of_another_pod_is_no_answer(gateway: FakeGateway) -> None:
    gateway.report = build_report("somebody-else")
    store = Store()
    pod = put_pod(store, gateway.ip)
    async with running(store, []) as prober:
        assert await prober.reports(KEY, (pod,)) == {"p0": None}


async def test_a_follower_asks_nobody(gateway: FakeGateway) -> None:
    store, news = Store(), []
    put_pod(store, gateway.ip)
    async with running(store, news, is_leader=lambda: False) as prober:
        prober.look(KEY, "p0")
        await asyncio.sleep(0.2)
        assert news == []


async def test_who_leads_again_judges_nobody_by_what_was_said_in_an_earlier_term(gateway: FakeGateway) -> None:
    store, terms = Store(), [True]
    pod = put_pod(store, gateway.ip)
    followed = asyncio.Event()

    def is_leader() -> bool:
        if not terms[-1]:
            followed.set()
        return terms[-1]

    async with running(store, [], is_leader=is_leader) as prober:
        report = (await prober.reports(KEY, (pod,)))["p0"]
        assert report and report.ready
        terms.append(False)
        prober.look(KEY, "p0")
        await followed.wait()
        gateway.report = build_report("p0", "LoadFailed", "x")
        terms.append(True)
        report = (await prober.reports(KEY, (pod,)))["p0"]
        assert report and report.backend.state == "LoadFailed"

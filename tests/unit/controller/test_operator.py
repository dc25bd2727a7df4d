"""The parts put together: a replica that holds the lease decides, however its elections and its lists overlap."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from localmodel.controller.__main__ import Operator
from localmodel.controller.connection import ApiError, KubernetesConnection
from localmodel.controller.settings import LeaseSettings, OperatorSettings
from localmodel.core.options import Images
from simulation.fake_connection import FakeConnection

MODELS = "/apis/localmodel.dev/v1alpha1/localmodels"


class SlowLists(FakeConnection):
    """Each list begins with the models, and waits there until the test lets it go on."""

    def __init__(self) -> None:
        super().__init__()
        self.lists: list[asyncio.Future[None]] = []

    async def request(self, method: str, path: str, *args: Any, **options: Any) -> tuple[int, dict[str, Any]]:
        if "/leases" in path:
            return await super().request(method, path, *args, **options)
        if path.split("?")[0] == MODELS:
            self.lists.append(asyncio.get_running_loop().create_future())
            await self.lists[-1]
        return 200, {"metadata": {"resourceVersion": "1"}, "items": []}


async def turns(until: Callable[[], bool]) -> bool:
    for _ in range(100):
        if until():
            return True
        await asyncio.sleep(0)
    return False


async def test_a_slow_list_of_an_earlier_term_does_not_take_the_lead_away() -> None:
    connection = SlowLists()
    lease = LeaseSettings(duration_seconds=60, renew_deadline_seconds=50)
    settings = OperatorSettings(images=Images(triton="t:1", gateway="g:1"), namespace="ops", lease=lease)
    operator = Operator(settings, cast(KubernetesConnection, connection))
    await operator.elector.attempt()
    assert await turns(lambda: len(connection.lists) == 1)
    connection.errors.append(ApiError(409, "the lease was changed"))
    await operator.elector.attempt()
    await operator.elector.attempt()
    assert await turns(lambda: len(connection.lists) == 2) and not operator.is_leader()
    connection.lists[1].set_result(None)
    assert await turns(operator.is_leader)
    if not connection.lists[0].done():
        connection.lists[0].set_result(None)
    assert not await turns(lambda: not operator.is_leader()), "it holds the lease, and would decide nothing"

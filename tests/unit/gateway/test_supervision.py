"""What supervises Triton ends with a bug of its own in plain sight; it does not go on half blind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from localmodel.api.engine_status import EngineStatus
from localmodel.api.gateway import GatewaySettings
from localmodel.api.predict import Task
from localmodel.gateway.backend import Backend
from localmodel.gateway.backend_errors import BackendUnreachable
from localmodel.gateway.sequences import Sequences


class Loaded:
    """A Triton that is live and has the model."""

    async def live(self) -> bool:
        return True

    loaded = live

    async def load(self) -> None: ...

    unload = load


class Link:
    token = instance = "x"

    def __init__(self, breaks: str) -> None:
        self.breaks = breaks

    @asynccontextmanager
    async def events(self, epoch: int, after: int) -> AsyncIterator[Any]:
        if self.breaks == "events":
            raise KeyError("a bug")
        await asyncio.sleep(60)
        yield

    async def status(self, seconds: float) -> Any:
        if self.breaks == "status":
            raise KeyError("a bug")
        raise BackendUnreachable("not now")


def supervisor(breaks: str, tmp_path: Path, task: Task = "TextGeneration") -> Backend:
    link: Any = Link(breaks)
    settings = GatewaySettings(
        model_name="m", served_names=("m",), context_window=16, max_batch_size=1, channel_token_file=str(tmp_path / "token"),
        task=task,
    )  # fmt: skip

    def ignore(*_: object) -> None: ...

    more: dict[str, Any] = dict.fromkeys(("on_new_triton", "on_new_engine", "on_status", "on_cut"), ignore)
    return Backend(settings, Loaded(), link, Sequences(link, ignore), **more)


@pytest.mark.parametrize("breaks", ["events", "status"])
async def test_a_bug_in_a_background_task_ends_the_supervisor(breaks: str, tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        await asyncio.wait_for(supervisor(breaks, tmp_path).run(), 60)


async def test_readiness_that_comes_and_goes_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    backend = supervisor("", tmp_path)
    for answered in (False, True, True, False, False, True):
        backend.witness(answered)
        assert backend.state.evidence == answered
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "INFO"]


@pytest.mark.parametrize(("task", "at_once"), [("TextGeneration", True), ("Embedding", False), ("Predict", False)])
async def test_a_canary_waits_until_it_is_known_what_it_can_ask(task: Task, at_once: bool, tmp_path: Path) -> None:
    backend = supervisor("", tmp_path, task)
    backend._ask_canary()
    assert (backend._canary is not None) == at_once
    backend.state.engine = EngineStatus.model_construct(task=task, signature=None, example=())
    backend._ask_canary()
    assert backend._canary is not None
    backend._canary.cancel()

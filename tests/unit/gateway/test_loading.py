"""A load ends as Triton says, or when neither Triton nor the engine that reads the weights gives a sign of life."""

import asyncio
from pathlib import Path
from time import monotonic

import pytest

from localmodel.gateway.backend_state import BackendState, why_dead
from localmodel.gateway.load_progress import ProgressReader
from localmodel.gateway.loading import Loading


class StarvedTriton:
    """Loads, and is too busy to say that it is live."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds

    async def live(self) -> bool:
        return False

    async def loaded(self) -> bool:
        return False

    async def unload(self) -> None:
        raise AssertionError("nothing to unload")

    async def load(self) -> None:
        for _ in range(self._rounds):
            await self.read_on()
            await asyncio.sleep(0.02)

    async def read_on(self) -> None:
        """Nothing of it is seen."""


class ReadingTriton(StarvedTriton):
    def __init__(self, token: Path, rounds: int) -> None:
        super().__init__(rounds)
        self._file = token.with_name("load-progress.json")
        self._read = 0

    async def read_on(self) -> None:
        self._read += 1
        new = self._file.with_suffix(".new")
        new.write_text(f'{{"read_bytes": {self._read}, "total_bytes": 100, "seconds": 1.0}}')
        new.replace(self._file)


@pytest.fixture(autouse=True)
def short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localmodel.gateway.loading._LIVE_POLL_SECONDS", 0.04)


async def test_an_engine_that_reads_on_lives(tmp_path: Path) -> None:
    state = BackendState()
    assert await Loading(ReadingTriton(tmp_path / "token", 15), state, ProgressReader(str(tmp_path / "token"))).load()
    assert state.progress is None
    assert why_dead(state, monotonic(), 0.0, 0.0, 60.0) == ""


async def test_one_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    state = BackendState()
    assert not await Loading(StarvedTriton(1000), state, ProgressReader(str(tmp_path / "token"))).load()
    assert (state.state, state.message) == ("Unreachable", "Triton stopped answering.")


async def test_nor_does_one_live_that_stopped_reading(tmp_path: Path) -> None:
    (tmp_path / "load-progress.json").write_text('{"read_bytes": 7, "total_bytes": 100, "seconds": 1.0}')
    state = BackendState()
    reader = ProgressReader(str(tmp_path / "token"))
    reader.begin = lambda: None  # type: ignore[method-assign]  # the file counts, though it does not change
    assert not await Loading(StarvedTriton(1000), state, reader).load()

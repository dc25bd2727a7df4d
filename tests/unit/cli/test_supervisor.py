"""Real child processes: started again, ended in order, and nothing left of them."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from localmodel.cli import supervisor
from localmodel.cli.supervisor import Supervised, describe_exit

SLEEP = "import time; time.sleep(600)"


def child(tmp_path: Path, code: str, said: list[str]) -> Supervised:
    argv = [sys.executable, "-c", textwrap.dedent(code)]
    return Supervised("Child", argv, os.environ, tmp_path / "child.log", said.append, backoff_seconds=(0.01,))


async def wait_until(true, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - what is waited for are other processes
            await asyncio.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state.rpartition(")")[2].split()[0] not in "ZX"


async def test_a_killed_child_comes_back_and_stop_ends_it(tmp_path):
    said: list[str] = []
    supervised = child(tmp_path, SLEEP, said)
    running = asyncio.create_task(supervised.run())
    await wait_until(lambda: supervised.pid)
    first = supervised.pid
    os.kill(first, signal.SIGKILL)
    await wait_until(lambda: supervised.pid not in (None, first))
    second = supervised.pid
    assert await supervised.stop(30)
    await running
    assert supervised.pid is None
    assert not is_alive(first)
    assert not is_alive(second)
    assert "Child ended (signal SIGKILL); starting it again in 0.01 s" in said


async def test_quick_ends_are_counted_and_the_log_kept(tmp_path):
    supervised = child(tmp_path, "print('no such thing'); raise SystemExit(3)", [])
    running = asyncio.create_task(supervised.run())
    await wait_until(lambda: supervised.quick_ends >= 3)
    await supervised.stop(30)
    await running
    assert supervised.read_log_tail(2).splitlines() == ["no such thing"] * 2


async def test_a_child_that_ignores_sigterm_is_killed_after_the_grace(tmp_path):
    code = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); {SLEEP}"
    supervised = child(tmp_path, code, [])
    running = asyncio.create_task(supervised.run())
    await wait_until(lambda: "deaf" in supervised.read_log_tail())
    pid = supervised.pid
    assert not await supervised.stop(0.1)
    await running
    assert not is_alive(pid)


async def test_grandchildren_end_with_the_child(tmp_path):
    code = f"""
        import subprocess, sys
        print(subprocess.Popen([sys.executable, "-c", "{SLEEP}"]).pid, flush=True)
        {SLEEP}
    """
    supervised = child(tmp_path, code, [])
    running = asyncio.create_task(supervised.run())
    await wait_until(lambda: supervised.read_log_tail().strip().isdigit())
    grandchild = int(supervised.read_log_tail())
    assert is_alive(grandchild)
    await supervised.stop(30)
    await running
    assert not is_alive(grandchild)


async def test_the_next_life_begins_after_all_of_the_last(tmp_path, monkeypatch):
    """A process that dies for longer than its leader, as one does that has a card's memory to give back."""
    asked: list[int] = []

    def is_dying(pid: int) -> bool:
        asked.append(pid)
        return len(asked) < 10

    monkeypatch.setattr(supervisor, "_has_group", is_dying)
    said: list[str] = []
    supervised = child(tmp_path, SLEEP, said)
    running = asyncio.create_task(supervised.run())
    await wait_until(lambda: supervised.pid)
    os.kill(supervised.pid, signal.SIGKILL)
    await wait_until(lambda: len(said) > 1)
    assert len(asked) == 10
    await supervised.stop(30)
    await running


async def test_what_never_goes_is_told_and_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "_has_group", lambda _: True)
    monkeypatch.setattr(supervisor, "GROUP_SECONDS", 0.05)
    said: list[str] = []
    supervised = child(tmp_path, SLEEP, said)
    running = asyncio.create_task(supervised.run())
    await wait_until(lambda: supervised.pid)
    await supervised.stop(30)
    await running
    assert said[-1] == "Child: processes that it had started are still there 0.05 s after SIGKILL"


async def test_a_program_that_does_not_exist_is_an_error(tmp_path):
    supervised = Supervised("Child", [str(tmp_path / "absent")], {}, tmp_path / "log", print)
    with pytest.raises(FileNotFoundError):
        await supervised.run()


async def test_stop_before_the_start_means_no_start(tmp_path):
    said: list[str] = []
    supervised = child(tmp_path, SLEEP, said)
    assert await supervised.stop(1)
    await supervised.run()
    assert said == []


async def test_children_end_when_we_are_killed(tmp_path):
    code = f"""
        import asyncio, os, sys
        from pathlib import Path
        from localmodel.cli.supervisor import Supervised
        argv = [sys.executable, "-c", "{SLEEP}"]
        asyncio.run(Supervised("Child", argv, os.environ, Path({str(tmp_path / "log")!r}), lambda s: print(s, flush=True)).run())
    """
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(code), stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    pid = int((await parent.stdout.readline()).split(b"pid ")[1].rstrip(b")\n"))
    assert is_alive(pid)
    parent.kill()
    await parent.wait()
    await wait_until(lambda: not is_alive(pid))


@pytest.mark.parametrize(("code", "text"), [(0, "exit code 0"), (-9, "signal SIGKILL"), (-64, "signal SIGRTMAX")])
def test_exit_in_words(code, text):
    assert describe_exit(code) == text

"""Keeps one child process running: started again with a growing delay when it ends, ended with its whole process group.

It knows nothing of models. Each child leads its own process group, so that Ctrl-C in the terminal reaches only us (we end
the children in the right order) and so that nothing a child had started is left when it is gone.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

BACKOFF_SECONDS = (0.5, 1, 2, 4, 8, 16, 30)
STABLE_SECONDS = 60.0
"""A child that ran this long starts again at the shortest delay."""
GROUP_SECONDS = 5.0
"""How long a killed group is waited for: where process 1 collects no orphans they stay for ever, though they hold nothing."""
_PR_SET_PDEATHSIG = 1


def describe_exit(code: int) -> str:
    """`exit code 3` or `signal SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


class Supervised:
    """One child and its restarts. `quick_ends` counts the ends in a row that came before STABLE_SECONDS."""

    def __init__(
        self, name: str, argv: Sequence[str], env: Mapping[str, str], log: Path, tell: Callable[[str], None],
        backoff_seconds: Sequence[float] = BACKOFF_SECONDS,
    ) -> None:  # fmt: skip
        self.name = name
        self.log = log
        self.quick_ends = 0
        self._argv, self._env, self._tell, self._backoff = list(argv), dict(env), tell, backoff_seconds
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Of the running child; None between two lives."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def run(self) -> None:
        """Starts the child, again and again, until `stop` or `kill`. Raises OSError if it can't be started at all."""
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._run_once()
            if self._stopping.is_set():
                return
            self.quick_ends = 0 if time.monotonic() - began >= STABLE_SECONDS else self.quick_ends + 1
            delay = self._backoff[min(max(self.quick_ends - 1, 0), len(self._backoff) - 1)]
            self._tell(f"{self.name} ended ({describe_exit(code)}); starting it again in {delay:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)

    async def stop(self, grace_seconds: float) -> bool:
        """SIGTERM, and SIGKILL after the grace. True if the child ended by itself."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return True
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), grace_seconds)
        except TimeoutError:
            self.kill()
            await process.wait()
            return False
        return True

    def kill(self) -> None:
        """Ends the child's whole process group at once, for good."""
        self._stopping.set()
        self.restart()

    def restart(self) -> None:
        """Ends the child's whole process group at once; `run` starts it again."""
        if self.pid is not None:
            _kill_group(self.pid)

    def read_log_tail(self, lines: int = 20) -> str:
        """The last lines that the child wrote."""
        try:
            with self.log.open("rb") as stream:
                stream.seek(max(0, self.log.stat().st_size - 64 * 1024))
                return b"\n".join(stream.read().splitlines()[-lines:]).decode(errors="replace")
        except FileNotFoundError:
            return ""

    async def _run_once(self) -> int:
        with self.log.open("ab") as stream:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv, env=self._env, stdin=asyncio.subprocess.DEVNULL, stdout=stream, stderr=stream,
                start_new_session=True, preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )  # fmt: skip
        if self._stopping.is_set():
            _kill_group(self._process.pid)
        else:
            self._tell(f"{self.name} started (pid {self._process.pid})")
        code = await self._process.wait()
        await self._end_group(self._process.pid)
        return code

    async def _end_group(self, pid: int) -> None:
        """What the child had started may hold a card's memory until it is gone: the next life begins after it."""
        _kill_group(pid)
        deadline = time.monotonic() + GROUP_SECONDS
        while _has_group(pid):
            if time.monotonic() > deadline:
                self._tell(f"{self.name}: processes that it had started are still there {GROUP_SECONDS:g} s after SIGKILL")
                return
            await asyncio.sleep(0.01)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _has_group(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


_LIBC = ctypes.CDLL(None, use_errno=True)


def _die_with_parent() -> None:
    """In the child, before exec: the kernel ends it if we are killed and can't."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

"""One other rank's process, as the first rank holds it.

Why it exists: how a process is started, spoken of and ended is the same while it loads and while it serves. It watches nothing.
"""

import os
import signal
import socket
import subprocess

from localmodel.engine.failures import RankFailed
from localmodel.engine.interpreter import environment, find_interpreter
from localmodel.engine.rank_link import Link, SignsOfLife
from localmodel.engine.rank_messages import Hello

MODULE = "localmodel.engine.rank"
END_SECONDS = 3.0


class RankProcess:
    def __init__(self, hello: Hello) -> None:
        """Starts it, from a thread that must outlive it. Raises NoInterpreter or OSError."""
        self.said: set[bytes] = set()
        card = f", GPU {hello.rank}" if hello.config.device == "cuda" else ""
        ours, theirs = socket.socketpair()
        memory = SignsOfLife.make_file()
        try:
            numbers = [str(number) for number in (theirs.fileno(), memory, os.getpid())]
            self._process = subprocess.Popen(
                [find_interpreter(), "-P", "-m", MODULE, *numbers],
                env=environment(),
                pass_fds=(theirs.fileno(), memory),
                stdin=subprocess.DEVNULL,
            )
            self.signs = SignsOfLife(memory)
        finally:
            theirs.close()
            os.close(memory)
        self.link = Link(ours)
        self.name = f"rank {hello.rank} of {hello.config.ranks} (process {self._process.pid}{card})"
        self.link.send(hello.model_dump_json().encode())

    @property
    def pid(self) -> int:
        return self._process.pid

    def ended(self) -> RankFailed:
        """Of one that has closed its end."""
        try:
            code = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            return RankFailed(f"{self.name} has closed its connection")
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return RankFailed(f"{self.name} {how}")

    def frozen(self, seconds: float) -> RankFailed:
        return RankFailed(f"{self.name} has given no sign of life for {seconds:.0f} s")

    def end(self) -> None:
        """It ends by itself when its link does; one that is frozen or computes does not."""
        self.link.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

"""A Python that has imported torch and the engine already, and becomes other processes by forking.

Why it exists: the imports are nearly all of the time that a rank takes to start. What it becomes is a child of the process that
asked, as the engine wants it: it forks twice, and whoever asked adopts orphans.
"""

import ctypes
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time

from localmodel.engine.interpreter import environment, find_interpreter

PR_SET_CHILD_SUBREAPER = 36
MOST_FILES = 3


class PreloadedPython:
    def __init__(self, module):
        """`module`: what to import at once."""
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [find_interpreter(), "-P", __file__, str(theirs.fileno()), module]
        self._process = subprocess.Popen(command, env=environment(), pass_fds=[theirs.fileno()])
        theirs.close()

    def popen(self, command, *, pass_fds=(), stdout=None, **_):
        """Stands for subprocess.Popen of `python ... -m MODULE` or `-c CODE`, and its arguments; `stdout`: a descriptor."""
        files = [*pass_fds, *([stdout] if stdout is not None else [])]
        order = {"command": command, "fds": list(pass_fds), "parent": os.getpid(), "stdout": stdout is not None}
        socket.send_fds(self._connection, [json.dumps(order).encode()], files)
        return Adopted(int(self._connection.recv(32)))

    def close(self):
        self._connection.close()
        self._process.kill()
        self._process.wait()


class Adopted:
    """What of subprocess.Popen the engine uses."""

    def __init__(self, pid):
        self.pid = pid
        self.returncode = None
        self._lock = threading.Lock()
        """Several threads wait, and only one of them can collect it."""

    def _poll(self):
        with self._lock:
            if self.returncode is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                self.returncode = os.waitstatus_to_exitcode(status) if pid else None
            return self.returncode

    def wait(self, timeout=None):
        until = None if timeout is None else time.monotonic() + timeout
        while self._poll() is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired("rank", timeout)
            time.sleep(0.005)
        return self.returncode

    def kill(self):
        with self._lock:
            if self.returncode is None:
                os.kill(self.pid, signal.SIGKILL)


def _serve(connection):
    while True:
        message, files, _, _ = socket.recv_fds(connection, 1 << 20, MOST_FILES)
        if not message:
            return
        child = os.fork()
        if child == 0:
            if os.fork() == 0:
                _become(json.loads(message), files, connection)
            os._exit(0)
        os.waitpid(child, 0)
        for file in files:
            os.close(file)


def _become(order, files, connection):
    while os.getppid() != order["parent"]:
        time.sleep(0.001)
    connection.send(str(os.getpid()).encode())
    connection.close()
    if order["stdout"]:
        os.dup2(files[-1], 1)
    given = dict(zip(map(str, order["fds"]), map(str, files), strict=False))  # descriptors have other numbers here
    command = order["command"]
    at = next(number for number, word in enumerate(command) if word in ("-m", "-c"))
    what, code, arguments = command[at], command[at + 1], [given.get(word, word) for word in command[at + 2 :]]
    sys.argv = [what, *arguments]
    status = 1
    try:
        if what == "-m":
            runpy.run_module(code, run_name="__main__", alter_sys=True)
        else:
            exec(compile(code, "<code>", "exec"), {"__name__": "__main__"})
        status = 0
    finally:
        os._exit(status)


if __name__ == "__main__":
    __import__(sys.argv[2])
    _serve(socket.socket(fileno=int(sys.argv[1])))

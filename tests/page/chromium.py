"""Debian's Chromium, started once for all tests of the page; each test opens a fresh profile in it."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PLAIN_HOST = "models.test"
"""A name that leads to loopback; to the browser it is a plain HTTP site, without what it offers to localhost only."""
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows", "--disable-renderer-backgrounding", "--remote-debugging-port=0",
    f"--host-resolver-rules=MAP {PLAIN_HOST} 127.0.0.1",
)  # fmt: skip
_START_SECONDS = 120.0


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """The address that playwright connects to."""
    program = shutil.which("chromium")
    assert program, "chromium is missing; hack/debian_packages.py chromium brings it"
    port = folder / "DevToolsActivePort"
    with (folder / "chromium.log").open("w") as log:
        command = [program, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        until = time.monotonic() + _START_SECONDS
        while not (port.exists() and port.read_text().count("\n")):
            assert process.poll() is None and time.monotonic() < until, (folder / "chromium.log").read_text()[-2000:]
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port.read_text().split()[0]}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

"""The script of `helm test`, against a server that speaks as an operator would: it passes with one leader and only then."""

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chart.conftest import CHART

CHECK = CHART / "files" / "check.py"
LEADS, WAITS = "# HELP localmodel_operator_leader x\nlocalmodel_operator_leader 1.0\n", "localmodel_operator_leader 0.0\n"


def run_check(port: int, seconds: float = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CHECK.read_text(), "127.0.0.1", str(port), str(seconds)]
    return subprocess.run(command, capture_output=True, text=True)


@contextmanager
def serve(*bodies: str) -> Iterator[int]:
    """A port that answers with each body once, and with the last one from then on."""
    left = list(bodies)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write((left.pop(0) if len(left) > 1 else left[0]).encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_a_leader_passes():
    with serve(LEADS) as port:
        assert run_check(port).returncode == 0


@pytest.mark.parametrize("body", [WAITS, "process_cpu_seconds_total 1\n"])
def test_no_leader_fails_and_names_the_runbook(body):
    with serve(body) as port:
        result = run_check(port)
    assert result.returncode != 0
    assert "docs/runbooks/LocalModelOperatorDown.md" in result.stderr


def test_a_leader_that_is_just_elected_is_waited_for():
    with serve(WAITS, LEADS) as port:
        assert run_check(port, seconds=10).returncode == 0


def test_no_operator_fails():
    result = run_check(1)
    assert result.returncode != 0
    assert "127.0.0.1:1" in result.stderr

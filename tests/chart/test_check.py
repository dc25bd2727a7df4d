"""The script of `helm test`, against a server that speaks as an operator would: it passes with one leader and only then."""

import http.server
import subprocess
import sys
import threading

import pytest

from chart.conftest import CHART

CHECK = CHART / "files" / "check.py"


def run_check(port):
    return subprocess.run([sys.executable, "-c", CHECK.read_text(), "127.0.0.1", str(port)], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("body", "passes"),
    [
        ("# HELP localmodel_operator_leader x\nlocalmodel_operator_leader 1.0\n", True),
        ("localmodel_operator_leader 0.0\n", False),
        ("process_cpu_seconds_total 1\n", False),
    ],
)
def test_one_leader_passes(body, passes):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        result = run_check(server.server_port)
        server.shutdown()
    assert (result.returncode == 0) is passes, result.stdout + result.stderr
    assert passes or "LocalModelOperatorDown" in result.stderr


def test_no_operator_fails():
    assert run_check(1).returncode != 0

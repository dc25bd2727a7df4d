"""INJECTION: a /status server in place of a pod's gateway, on a loopback address of its own, because no pod runs here."""

import itertools
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from localmodel.api.constants import ADMIN_PORT
from localmodel.api.gateway import BackendStatus, GatewayStatus

_ADDRESSES = itertools.count(2)

ENGINE: dict[str, Any] = {"memory_bytes": 1_500_000_000, "kv_tokens_capacity": 65536, "weights_bytes": 270_000_000}


def build_report(pod: str, state: str = "Ready", message: str = "", **changes: Any) -> GatewayStatus:
    ready = state == "Ready"
    backend = BackendStatus(
        state=state,  # type: ignore[arg-type]
        message=message,
        load_seconds=3.21 if ready else None,
        engine=ENGINE if ready else None,
    )
    fields: dict[str, Any] = {
        "pod": pod,
        "model": "chat",
        "version": "",
        "gateway_version": "test",
        "ready": ready,
        "reason": {"Ready": "Ready", "Unreachable": "BackendUnreachable", "Hung": "BackendHung"}.get(state, state),
        "draining": False,
        "slots": 16,
        "slots_in_use": 0,
        "queue_length": 0,
        "backend": backend,
    }
    return GatewayStatus(**{**fields, **changes})


class FakeGateway:
    def __init__(self, report: GatewayStatus) -> None:
        self.ip = f"127.0.1.{next(_ADDRESSES)}"
        self.report = report
        self.pause_seconds = 0.0
        """In the middle of the answer, as a network may make it."""
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(gateway.report.model_dump(mode="json")).encode()
                self.send_response(200 if self.path == "/status" else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[:100])
                if gateway.pause_seconds:
                    time.sleep(gateway.pause_seconds)
                self.wfile.write(body[100:])

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((self.ip, ADMIN_PORT), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

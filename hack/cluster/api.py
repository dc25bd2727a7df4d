"""As much of an API client as the cluster commands need: readiness, reads, server-side apply.

Tests and the operator have real clients; this one must not grow.
"""

from __future__ import annotations

import json
import ssl
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

FIELD_MANAGER = "localmodel-cluster"


class Api:
    """Talks to one API server as the user of the certificate <name>.crt."""

    def __init__(self, server: str, pki: Path, name: str) -> None:
        self.server = server
        self._context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._context.load_cert_chain(pki / f"{name}.crt", pki / f"{name}.key")

    def get(self, path: str) -> dict[str, Any]:
        return dict(json.loads(self._request("GET", path)))

    def apply(self, path: str, body: dict[str, Any]) -> None:
        query = f"?fieldManager={FIELD_MANAGER}&force=true"
        self._request("PATCH", path + query, json.dumps(body).encode())

    def is_ready(self) -> bool:
        try:
            return self._request("GET", "/readyz") == b"ok"
        except OSError:
            return False

    def node_is_ready(self, name: str) -> bool:
        try:
            conditions = self.get(f"/api/v1/nodes/{name}")["status"].get("conditions", [])
        except OSError:
            return False
        return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)

    def _request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        headers = {"Content-Type": "application/apply-patch+yaml"} if body else {}
        request = urllib.request.Request(self.server + path, body, headers, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self._context))
        with opener.open(request, timeout=5) as response:
            return bytes(response.read())


def wait_until(what: str, is_so: Callable[[], bool], seconds: float, every: float = 0.1) -> None:
    """Poll until it is so; a time-out ends the command with a sentence that names what was missing."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise SystemExit(f"gave up after {seconds:.0f} s waiting for {what}")
        time.sleep(every)

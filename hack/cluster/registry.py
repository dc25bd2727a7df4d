"""The local image registry: one process where the host pushes, one read-only where the nodes pull.

Both serve the same folder in the cache, which outlives the cluster, so that a new cluster has the images.
Neither listens on an address that other machines can reach.
"""

from __future__ import annotations

import json
from typing import Any

from cluster import layout as at
from cluster.layout import Layout

PROCESS = "registry"
NODES_PROCESS = "registry-nodes"


def registry_command(layout: Layout, process: str) -> list[str]:
    return ["env", "OTEL_TRACES_EXPORTER=none", layout.tool("registry"), "serve", f"{layout.config}/{process}.json"]


def write_registries(layout: Layout) -> None:
    layout.config.mkdir(parents=True, exist_ok=True)
    layout.registry_data.mkdir(parents=True, exist_ok=True)
    for process, address, read_only in ((PROCESS, "127.0.0.1", False), (NODES_PROCESS, at.CONTROL_IP, True)):
        config = _config(layout, f"{address}:{at.REGISTRY_PORT}", read_only=read_only)
        (layout.config / f"{process}.json").write_text(json.dumps(config, indent=1))


def _config(layout: Layout, address: str, *, read_only: bool) -> dict[str, Any]:
    return {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(layout.registry_data)},
            "delete": {"enabled": True},
            "maintenance": {"uploadpurging": {"enabled": False}, "readonly": {"enabled": read_only}},
        },
        "http": {"addr": address},
    }

"""Kubeconfig files with the certificates inside, so that a copy of the file works anywhere.

Never reads or writes the user's own ~/.kube/config.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

CONTEXT = "localmodel"


def write_kubeconfig(path: Path, server: str, pki: Path, name: str) -> None:
    """The user is whoever the certificate <name>.crt names."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": CONTEXT,
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": name}}],
        "clusters": [{"name": CONTEXT, "cluster": {"server": server, "certificate-authority-data": _encoded(pki / "ca.crt")}}],
        "users": [
            {
                "name": name,
                "user": {
                    "client-certificate-data": _encoded(pki / f"{name}.crt"),
                    "client-key-data": _encoded(pki / f"{name}.key"),
                },
            }
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    temporary.touch(mode=0o600)
    temporary.write_text(json.dumps(content, indent=1))
    temporary.rename(path)


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()

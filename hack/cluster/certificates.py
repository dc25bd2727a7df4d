"""The cluster's certificate authority and everything it signs, made with the openssl command.

Made anew for every cluster: no key outlives a `down`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

VALID_DAYS = "365"
_EC_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def make_authority(folder: Path) -> None:
    """ca.crt and ca.key, and the key pair that signs service account tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    _openssl(
        folder,
        *("req", "-x509", *_EC_KEY, "-subj", "/CN=localmodel-cluster-ca", "-days", VALID_DAYS),
        *("-keyout", "ca.key", "-out", "ca.crt", "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"),
    )
    _openssl(folder, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", "sa.key")
    _openssl(folder, "pkey", "-in", "sa.key", "-pubout", "-out", "sa.pub")


def sign(folder: Path, name: str, user: str, group: str = "", hosts: Sequence[str] = ()) -> None:
    """<name>.crt and <name>.key: a client certificate for the user, and a serving one when hosts are given."""
    subject = (f"/O={group}" if group else "") + f"/CN={user}"
    usage = "clientAuth,serverAuth" if hosts else "clientAuth"
    command = ["req", "-x509", *_EC_KEY, "-subj", subject, "-days", VALID_DAYS, "-CA", "ca.crt", "-CAkey", "ca.key"]
    command += ["-keyout", f"{name}.key", "-out", f"{name}.crt"]
    command += ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", f"extendedKeyUsage={usage}"]
    if hosts:
        command += ["-addext", "subjectAltName=" + ",".join(_alternative_name(host) for host in hosts)]
    _openssl(folder, *command)


def _alternative_name(host: str) -> str:
    return f"IP:{host}" if host.replace(".", "").isdigit() else f"DNS:{host}"


def _openssl(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"openssl {arguments[0]} failed: {done.stderr.strip()}")

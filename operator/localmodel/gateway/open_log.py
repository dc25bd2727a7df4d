"""Opens the request log that the settings ask for: which sinks, what is redacted, and with which key the chain is made."""

import logging
import os
from pathlib import Path

from localmodel import __version__
from localmodel.api.gateway import GatewaySettings
from localmodel.gateway import body_search
from localmodel.gateway.log import RecordLog
from localmodel.gateway.redact import Redactor
from localmodel.gateway.sinks import Sink
from localmodel.gateway.targets import DescriptorTarget, FilesTarget

_SHORTEST_KEY_BYTES = 16

log = logging.getLogger("localmodel.gateway.log")


class BadLogSettings(ValueError):
    """What can't be used, and what to do about it."""


class BadLogKey(BadLogSettings):
    """The key of the log's chain is missing or too short."""


def open_log(settings: GatewaySettings, pod: str) -> RecordLog:
    """Raises BadLogSettings, or BadPattern. A directory that can't be written is no error: records are lost, and counted."""
    redactor = Redactor(settings.redact, settings.redact_patterns)
    if settings.log_mode == "None":
        return RecordLog()
    key = read_key(settings.log_key_file) if settings.log_key_file else b""
    about = {
        "pod": pod, "namespace": settings.namespace, "model": settings.model_name, "model_version": settings.model_version,
        "gateway_version": __version__, "mode": settings.log_mode, "hash_kind": "hmac-sha256" if key else "sha256",
    }  # fmt: skip
    sinks = [Sink("stdout", DescriptorTarget(), about, key)]
    if settings.log_file is not None:
        file = settings.log_file
        sinks.append(Sink("file", FilesTarget(Path(file.directory), file.max_bytes, file.max_files, key), about, key))
    if settings.log_mode != "Full":
        return RecordLog(sinks)
    if not body_search.built():
        log.warning("bodies are searched in Python, which takes five times as long: %s", body_search.absence())
    return RecordLog(sinks, redactor)


def read_key(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file without line breaks at the end."""
    try:
        key = Path(path).read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise BadLogKey(f"the key of the log's chain can't be read: {error}") from None
    if len(key) < _SHORTEST_KEY_BYTES:
        raise BadLogKey(f"{path}: a key of at least {_SHORTEST_KEY_BYTES} bytes is needed; `openssl rand -hex 32` makes one")
    return key

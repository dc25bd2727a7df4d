"""The gateway from read settings to its end: until SIGTERM, with exit code 0 after a drain.

Why it exists apart from `process`: its imports take half a second.
"""

import asyncio
import gc
import logging
import os
import resource
import secrets
import signal
import socket
import sys
from pathlib import Path

import aiohttp
import uvloop

from localmodel.api.constants import EXIT_BAD_LOG_KEY
from localmodel.api.gateway import GatewaySettings
from localmodel.gateway.app import Gateway
from localmodel.gateway.first_load import FirstLoad
from localmodel.gateway.log import RecordLog
from localmodel.gateway.open_log import BadLogKey, BadLogSettings, open_log
from localmodel.gateway.patterns import BadPattern
from localmodel.gateway.prompts import load_prompts
from localmodel.gateway.token_file import BadTokenFile, read_or_create

_SWITCH_SECONDS = 0.001
"""The log's thread may hold the requests' for so long, not for Python's five milliseconds."""
_YOUNG_OBJECTS = 20_000
"""Requests leave few cycles behind, and looking for them after every 700 new objects took a tenth of the processor's time."""

_FILES = 16_384
"""A connection is a file, and there may be thousands; the soft limit of many container runtimes is 1,024."""

log = logging.getLogger("localmodel.gateway.serve")


def raise_file_limit() -> None:
    """As far as the hard limit lets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < _FILES:
        log.warning("only %d files may be open, connections included: raise the container runtime's limit (nofile)", allowed)


async def serve(settings: GatewaySettings, first_load: FirstLoad, pod: str, token: str, records: RecordLog) -> None:
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False) as session:
        gateway = Gateway(
            settings,
            load_prompts(settings.model_path),
            records,
            session,
            pod=pod,
            token=token,
            instance=secrets.token_hex(8),
            first_load=first_load.take(),
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, gateway.stop)
        gc.collect()
        gc.freeze()
        gc.set_threshold(_YOUNG_OBJECTS, 10, 10)
        await gateway.run()


def run(settings: GatewaySettings, file: Path, first_load: FirstLoad) -> int:
    """The exit code. `file`: where the settings are from."""
    try:
        token = read_or_create(settings.channel_token_file)
        pod = os.environ.get("POD_NAME") or socket.gethostname()
        records = open_log(settings, pod)
    except (OSError, BadTokenFile, BadPattern, BadLogSettings) as error:
        print(f"localmodel.gateway: {file}: {error}", file=sys.stderr)
        return EXIT_BAD_LOG_KEY if isinstance(error, BadLogKey) else 2
    raise_file_limit()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        uvloop.run(serve(settings, first_load, pod, token, records))
    finally:
        records.close()
    return 0

"""What a client says about its own patience, in headers: how long it waits in all, how long it waits between two reads, and
whether this is a second try of the same request.

Pure. `x-request-deadline-ms` is a promise to the client and checked like a field; the `x-stainless-*` headers are notes that
OpenAI's SDKs add on their own, so a strange one is ignored.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from localmodel.gateway import errors

DEADLINE = "x-request-deadline-ms"
READ_TIMEOUT = "x-stainless-read-timeout"
RETRY_COUNT = "x-stainless-retry-count"


class ClientHeaders(NamedTuple):
    deadline_seconds: float | None = None
    """From the request's head to the last byte."""
    read_seconds: float | None = None
    """Longest pause between two reads."""
    again: bool = False
    """The client sends this request not for the first time."""


NO_CLIENT_HEADERS = ClientHeaders()


def parse_client_headers(headers: Mapping[str, str]) -> ClientHeaders:
    """Raises 400 for a deadline that is no whole number of milliseconds. Names of headers in any case, or in lower case."""
    if DEADLINE not in headers and READ_TIMEOUT not in headers and RETRY_COUNT not in headers:
        return NO_CLIENT_HEADERS
    return ClientHeaders(
        _deadline(headers.get(DEADLINE)),
        _read_seconds(headers.get(READ_TIMEOUT, "")),
        re.fullmatch(r"0*[1-9][0-9]{0,8}", headers.get(RETRY_COUNT, "").strip()) is not None,
    )


def _deadline(text: str | None) -> float | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,12}", text.strip()) or int(text) < 1:
        raise errors.bad_request(f"'{DEADLINE}' must be the whole number of milliseconds left, 1 or more.", DEADLINE)
    return int(text) / 1000


def _read_seconds(text: str) -> float | None:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text.strip()):
        return None
    return float(text) or None

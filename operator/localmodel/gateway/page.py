"""The chat page at `/`: static files out of the package, read once, sent with headers that let them load nothing else.

They carry no secret and know no setting, so no key is asked for. This module must not render anything.
"""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from time import monotonic

from localmodel.gateway.answers import send
from localmodel.gateway.exchange import Exchange
from localmodel.gateway.request import Request

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_SECONDS = 10.0
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Asset:
    body: bytes
    content_type: str
    etag: str


class Page:
    """`/` and `/page/NAME`. Browsers ask each time whether a file changed: an upgrade shows at the next reload."""

    def __init__(self) -> None:
        folder = files("localmodel.gateway").joinpath("page")
        self._assets = {f"/page/{entry.name}": _read(entry) for entry in folder.iterdir() if _kind(entry.name) in _TYPES}
        self._assets["/"] = self._assets.pop("/page/index.html")
        self.paths = frozenset(self._assets)

    async def respond(self, request: Request, exchange: Exchange) -> None:
        request.check_method("GET")
        asset = self._assets[request.path]
        known = asset.etag in (tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(","))
        headers = {"etag": asset.etag, **_HEADERS}
        status, body = (304, b"") if known else (200, asset.body)
        until = monotonic() + _SECONDS
        await send(request, exchange, status, body, content_type=asset.content_type, headers=headers, until=until)
        exchange.close("ok")


def _kind(name: str) -> str:
    return name[name.rfind(".") :]


def _read(entry: Traversable) -> Asset:
    body = entry.read_bytes()
    return Asset(body, _TYPES[_kind(entry.name)], f'"{hashlib.sha256(body).hexdigest()[:32]}"')

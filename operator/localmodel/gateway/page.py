"""The chat page at `/`: static files out of the package, read once, sent with headers that let them load nothing else.

They carry no secret and know no setting, so no key is asked for. This module must not render anything.
"""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from time import monotonic

from aiohttp import web

from localmodel.gateway import errors
from localmodel.gateway.answers import common_headers, finish
from localmodel.gateway.exchange import Exchange

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

    @property
    def paths(self) -> frozenset[str]:
        return frozenset(self._assets)

    async def respond(self, request: web.BaseRequest, exchange: Exchange, path: str) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            raise errors.method_not_allowed("GET, HEAD")
        asset = self._assets[path]
        known = asset.etag in (tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(","))
        headers = {"etag": asset.etag, **_HEADERS}
        if known:
            response = web.Response(status=304, headers={**common_headers(exchange, 304), **headers})
        else:
            headers["content-type"] = asset.content_type
            response = web.Response(body=asset.body, headers={**common_headers(exchange, 200), **headers})
        await finish(request, response, monotonic() + _SECONDS)
        if not known and request.method == "GET":
            exchange.sent(asset.body)
        exchange.close("ok")
        return response


def _kind(name: str) -> str:
    return name[name.rfind(".") :]


def _read(entry: Traversable) -> Asset:
    body = entry.read_bytes()
    return Asset(body, _TYPES[_kind(entry.name)], f'"{hashlib.sha256(body).hexdigest()[:32]}"')

"""The admin port: probes, metrics, status and drain, for the kubelet, the operator and Prometheus. Never for users."""

from collections.abc import Awaitable, Callable, Mapping
from time import monotonic

from prometheus_client import CONTENT_TYPE_LATEST

from localmodel.api.gateway import GatewayStatus
from localmodel.gateway import errors
from localmodel.gateway.answers import send
from localmodel.gateway.exchange import Exchange, pick_request_id
from localmodel.gateway.hosts import Hosts
from localmodel.gateway.record import Record
from localmodel.gateway.request import Request

_SECONDS = 10.0
_TEXT = "text/plain; charset=utf-8"


class AdminSite:
    def __init__(
        self,
        *,
        status: Callable[[], GatewayStatus],
        why_backend_dead: Callable[[], str],
        drain: Callable[[], Awaitable[bool]],
        metrics: Callable[[], bytes],
        hosts: Hosts,
    ) -> None:
        self._status = status
        self._why_backend_dead = why_backend_dead
        self._drain = drain
        self._metrics = metrics
        self._hosts = hosts

    def open(self, headers: Mapping[str, str], client: str | None) -> Exchange:
        """Requests here are not users' requests: they leave no record."""
        record = Record(request_id=pick_request_id(None), pod="", namespace="", model="", model_version="")
        return Exchange(record, lambda exchange: None)

    async def respond(self, request: Request, exchange: Exchange) -> None:
        status, body, kind = await self._answer(request)
        await send(request, exchange, status, body, content_type=kind, until=monotonic() + _SECONDS)
        exchange.close("ok")

    async def _answer(self, request: Request) -> tuple[int, bytes, str]:
        path = request.path
        if path not in ("/livez", "/livez/backend", "/readyz", "/status", "/metrics", "/drain"):
            message = "Unknown URL. This port answers /livez, /livez/backend, /readyz, /status, /metrics and /drain."
            raise errors.ApiError(404, "unknown_url", message, outcome="rejected")
        request.check_method("GET")
        match path:
            case "/livez/backend":
                why = self._why_backend_dead()
                return (503, f"{why}\n".encode(), _TEXT) if why else (200, b"ok\n", _TEXT)
            case "/readyz":
                status = self._status()
                text = "ok" if status.ready else f"{status.reason}: {status.message}"
                return 200 if status.ready else 503, f"{text}\n".encode(), _TEXT
            case "/status":
                return 200, self._status().model_dump_json().encode(), "application/json"
            case "/metrics":
                return 200, self._metrics(), CONTENT_TYPE_LATEST
            case "/drain":
                self._hosts.check(request.headers.get("host"))
                _refuse_other_sites(request)
                complete = await self._drain()
                return 200, b"drained\n" if complete else b"not waited for\n", _TEXT
        return 200, b"ok\n", _TEXT


def _refuse_other_sites(request: Request) -> None:
    """Any page in a browser on this machine can ask for a URL of it, and Triton's hook can only GET. Browsers say who asks."""
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise errors.ApiError(403, None, "A page of another site may not drain this replica. Ask yourself.", outcome="rejected")

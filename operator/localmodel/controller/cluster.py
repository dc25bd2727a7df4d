"""The port to the API server: the only way in which the operator reads or writes anything there.

It refuses every write while this replica does not hold the lease, and every request that the table of permissions does
not name. It makes no decisions: what is written is given, complete, by core.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import client, config

from localmodel.api import constants
from localmodel.core.kinds import KINDS, LOCAL_MODEL, Kind
from localmodel.core.permissions import is_permitted

logger = logging.getLogger(__name__)
_APPLY = "application/apply-patch+yaml"
_PAGE = 500
_MERGE = "application/merge-patch+json"


class ApiError(Exception):
    """What the API server answered instead of what was asked. Status 0: it did not answer."""

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.retry_after = status, message, retry_after


class NotLeader(Exception):
    """A write was refused because this replica may not write now."""


class Connection(Protocol):
    async def request(
        self, method: str, path: str, body: Any = None, *, content_type: str = "application/json", timeout_seconds: float = 10.0
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON of a successful answer; raises ApiError for any other."""


class KubernetesConnection:
    """HTTP to the API server with the credentials of the pod, or of the current kubeconfig."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    @classmethod
    async def open(cls) -> "KubernetesConnection":
        configuration = client.Configuration()
        try:
            config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException:
            await config.load_kube_config(client_configuration=configuration)
        configuration.retries = None
        return cls(client.ApiClient(configuration))

    async def close(self) -> None:
        await self._api.close()

    async def request(
        self, method: str, path: str, body: Any = None, *, content_type: str = "application/json", timeout_seconds: float = 10.0
    ) -> tuple[int, dict[str, Any]]:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        method, url, headers, _, _ = await self._api.param_serialize(
            method, path, header_params=headers, auth_settings=["BearerToken"]
        )
        limit = aiohttp.ClientTimeout(total=timeout_seconds)
        try:
            response = await self._api.rest_client.request(method, url, headers=headers, body=body, _request_timeout=limit)
            data = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiError(0, f"the API server does not answer: {error or type(error).__name__}") from error
        document = _parse(data)
        if response.status >= 400:
            raise ApiError(
                response.status, document.get("message") or data.decode(errors="replace")[:500], _retry_after(response)
            )
        return response.status, document


class Cluster:
    def __init__(
        self,
        connection: Connection,
        *,
        may_write_for: Callable[[], float],
        count_write: Callable[[str, str], None],
        request_timeout_seconds: float,
    ) -> None:
        self._connection, self._may_write_for, self._count_write = connection, may_write_for, count_write
        self._timeout = request_timeout_seconds

    async def apply(self, desired: dict[str, Any]) -> dict[str, Any]:
        """Server-side apply of a complete object; what others own stays theirs, what we want is ours."""
        kind, metadata = KINDS[desired["kind"]], desired["metadata"]
        query = {"fieldManager": constants.FIELD_MANAGER, "force": "true"}
        path = kind.path(metadata["namespace"], metadata["name"])
        return await self._write("patch", kind, kind.plural, "PATCH", path, query, desired, _APPLY)

    async def apply_status(self, namespace: str, name: str, uid: str, status: dict[str, Any]) -> dict[str, Any]:
        kind = LOCAL_MODEL
        body = {
            "apiVersion": kind.api_version,
            "kind": kind.name,
            "metadata": {"name": name, "namespace": namespace, "uid": uid},
            "status": status,
        }
        query = {"fieldManager": constants.FIELD_MANAGER_STATUS, "force": "true"}
        path = kind.path(namespace, name) + "/status"
        return await self._write("patch", kind, f"{kind.plural}/status", "PATCH", path, query, body, _APPLY)

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Only this very object; that it is gone already is fine."""
        body = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            await self._write("delete", kind, kind.plural, "DELETE", kind.path(namespace, name), {}, body)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    async def find(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        """The object that has this name, whoever made it. For names that our watches can't see."""
        self._check(kind.group, kind.plural, "get")
        try:
            return (await self._connection.request("GET", kind.path(namespace, name), timeout_seconds=self._timeout))[1]
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def list_pages(self, kind: Kind, namespace: str, selector: str) -> AsyncIterator[tuple[list[dict[str, Any]], int]]:
        """Bodies and the version of the whole list, page by page. All namespaces if `namespace` is empty."""
        self._check(kind.group, kind.plural, "list")
        root = kind.path(namespace) if namespace else kind.path("").replace("/namespaces//", "/")
        query = {"limit": str(_PAGE)} | ({"labelSelector": selector} if selector else {})
        while True:
            _, page = await self._connection.request("GET", f"{root}?{urlencode(query)}", timeout_seconds=self._timeout)
            yield page.get("items") or [], int(page["metadata"].get("resourceVersion") or 0)
            query["continue"] = page["metadata"].get("continue", "")
            if not query["continue"]:
                return

    async def create_event(self, body: dict[str, Any]) -> None:
        path = _EVENTS.path(body["metadata"]["namespace"])
        await self._write("create", _EVENTS, _EVENTS.plural, "POST", path, {}, body)

    async def patch_event(self, namespace: str, name: str, change: dict[str, Any]) -> None:
        await self._write("patch", _EVENTS, _EVENTS.plural, "PATCH", _EVENTS.path(namespace, name), {}, change, _MERGE)

    async def _write(
        self,
        verb: str,
        kind: Kind,
        resource: str,
        method: str,
        path: str,
        query: dict[str, str],
        body: dict[str, Any],
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        """The answer is given up, on both sides, before the lease could be somebody else's."""
        self._check(kind.group, resource, verb)
        remaining = self._may_write_for()
        if remaining <= 0:
            raise NotLeader
        limit = min(self._timeout, remaining)
        url = f"{path}?{urlencode({**query, 'timeout': f'{limit:.3f}s'})}"
        self._count_write(verb, resource)
        return (await self._connection.request(method, url, body, content_type=content_type, timeout_seconds=limit))[1]

    def _check(self, group: str, resource: str, verb: str) -> None:
        if not is_permitted(group, resource, verb):
            raise PermissionError(f"core/permissions.py does not allow to {verb} {resource}.{group}")


_EVENTS = Kind("Event", "events.k8s.io", "v1", "events")


async def wait_for_resource(connection: Connection, *, pause_seconds: float = 2.0) -> None:
    """Until the API server knows LocalModel: an operator that starts before its CRD would watch nothing for ever."""
    path = f"/apis/{constants.API_VERSION}"
    while True:
        try:
            _, found = await connection.request("GET", path)
            if any(each["name"] == constants.PLURAL for each in found.get("resources", ())):
                return
            problem = f"{constants.PLURAL}.{constants.GROUP} is not served yet"
        except ApiError as error:
            problem = error.message
        logger.warning("waiting for the CustomResourceDefinition", extra={"error": problem})
        await asyncio.sleep(pause_seconds)


def _parse(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _retry_after(response: Any) -> float | None:
    values: Sequence[str] = [v for k, v in (response.headers).items() if k.lower() == "retry-after"]
    try:
        return float(values[0]) if values else None
    except ValueError:
        return None

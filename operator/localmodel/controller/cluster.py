"""The port to the API server: the only way in which the operator reads or writes anything there.

It refuses every write while this replica does not hold the lease, and every request that the table of permissions does
not name. It makes no decisions: what is written is given, complete, by core.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlencode

from localmodel.api import constants
from localmodel.controller.connection import ApiError, Connection
from localmodel.core.kinds import KINDS, LOCAL_MODEL, Kind
from localmodel.core.permissions import is_permitted

_APPLY = "application/apply-patch+yaml"
_PAGE = 500
_MERGE = "application/merge-patch+json"


class NotLeader(Exception):
    """A write was refused because this replica may not write now."""


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

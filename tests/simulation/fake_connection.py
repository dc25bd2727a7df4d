"""INJECTION: an API server in memory that keeps versions and can fail, be slow or be cut off, as a test wants."""

import copy
from typing import Any

from localmodel.controller.connection import ApiError


class FakeConnection:
    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, Any]] = []
        self.errors: list[ApiError] = []
        self.cut = False
        self._version = 0

    async def request(
        self, method: str, path: str, body: Any = None, *, content_type: str = "application/json", timeout_seconds: float = 10.0
    ) -> tuple[int, dict[str, Any]]:
        self.requests.append((method, path, copy.deepcopy(body)))
        if self.cut:
            raise ApiError(0, "cut off")
        if self.errors:
            raise self.errors.pop(0)
        path = path.split("?")[0]
        if method == "GET":
            if path not in self.objects:
                raise ApiError(404, "not found")
            return 200, copy.deepcopy(self.objects[path])
        if method == "POST":
            path = f"{path}/{body['metadata']['name']}"
            if path in self.objects:
                raise ApiError(409, "already exists")
        if method == "PUT":
            if path not in self.objects:
                raise ApiError(404, "not found")
            stale = self.objects[path]["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]
            if stale:
                raise ApiError(409, "the object has been modified")
        if method == "DELETE":
            self.objects.pop(path, None)
            return 200, {}
        self._version += 1
        metadata = {**body.get("metadata", {}), "resourceVersion": str(self._version)}
        self.objects[path] = {**copy.deepcopy(body), "metadata": metadata}
        return 200, copy.deepcopy(self.objects[path])

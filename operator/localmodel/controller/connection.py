"""HTTP to the API server: what is sent, what came back, and its errors in one type.

It knows no objects and makes no decisions, and it does not try again: who may write, and when, is for cluster.py and lease.py.
"""

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import Any, Protocol

import aiohttp
from kubernetes.aio import client, config

from localmodel.api import constants

logger = logging.getLogger(__name__)


class ApiError(Exception):
    """What the API server answered instead of what was asked. Status 0: it did not answer."""

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.retry_after = status, message, retry_after


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

"""Triton's own control routes, on loopback: is it alive, load, unload.

Separate from the channel because they work while no model is loaded. Nothing of this is reachable from outside.
"""

import asyncio
from http.client import HTTPException

import aiohttp

from localmodel.gateway.backend_errors import BackendError, BackendGarbage, BackendUnreachable
from localmodel.gateway.channel import read_whole
from localmodel.gateway.first_load import Answer
from localmodel.gateway.wire import error_message

_PROBE_SECONDS = 1.0
_LOAD_SECONDS = 3600.0


class Triton:
    def __init__(self, session: aiohttp.ClientSession, url: str, model: str, begun: Answer | None = None) -> None:
        """`begun`: a load that was asked for already."""
        self._session = session
        self._begun = begun
        self._live = f"{url}/v2/health/live"
        self._loaded = f"{url}/v2/models/{model}/ready"
        self._repository = f"{url}/v2/repository/models/{model}"

    async def live(self) -> bool:
        return await self._says_yes(self._live)

    async def loaded(self) -> bool:
        """Triton's word, which stays yes when the engine's process has died: ask only where silence is noticed too."""
        return self._begun is None and await self._says_yes(self._loaded)

    async def _says_yes(self, url: str) -> bool:
        try:
            async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=_PROBE_SECONDS)) as reply:
                return reply.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def load(self, config: str | None = None) -> None:
        """Returns when the model is loaded. `config`: instead of its config.pbtxt, as JSON. Raises BackendError with Triton's
        words, or BackendUnreachable."""
        begun, self._begun = self._begun, None
        if begun is not None:
            await self._wait(begun)
        else:
            await self._control("load", _LOAD_SECONDS, {"config": config} if config else None)

    @staticmethod
    async def _wait(begun: Answer) -> None:
        try:
            status, body = await asyncio.wrap_future(begun)
        except (OSError, HTTPException) as error:
            raise BackendUnreachable(str(error) or type(error).__name__) from error
        if status != 200:
            raise BackendError(error_message(body, status))

    async def unload(self) -> None:
        await self._control("unload", 60.0)

    async def _control(self, verb: str, seconds: float, parameters: dict[str, str] | None = None) -> None:
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=1)
        document = {"parameters": parameters} if parameters else {}
        try:
            async with self._session.post(f"{self._repository}/{verb}", json=document, timeout=timeout) as reply:
                body = await read_whole(reply)
                if reply.status != 200:
                    raise BackendError(error_message(body, reply.status))
        except (aiohttp.ClientError, TimeoutError, OSError, BackendGarbage) as error:
            raise BackendUnreachable(str(error) or type(error).__name__) from error

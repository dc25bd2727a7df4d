"""Asks Triton for the model while the gateway's own modules are still imported, which takes it half a second.

A thread with the standard library only, since nothing else is there yet. Whoever supervises Triton later takes over: a request
that was made then is waited for, and none is made any more. It must not ask for a loaded model: Triton would load it anew.
"""

import http.client
import threading
from concurrent.futures import Future
from time import sleep
from urllib.parse import urlsplit

_POLL_SECONDS = 0.02
_PROBE_SECONDS = 1.0
_LOAD_SECONDS = 3600.0

Answer = Future[tuple[int, bytes]]
"""HTTP status and body; or OSError or HTTPException."""


class FirstLoad:
    def __init__(self, triton_url: str, model: str) -> None:
        """Nothing runs before `begin`."""
        parts = urlsplit(triton_url)
        self._address = parts.hostname or "", parts.port or 80
        self._loaded = f"/v2/models/{model}/ready"
        self._load = f"/v2/repository/models/{model}/load"
        self._lock = threading.Lock()
        self._taken = False
        self._answer: Answer | None = None

    def begin(self) -> None:
        threading.Thread(target=self._run, name="first load", daemon=True).start()

    def take(self) -> Answer | None:
        """To be called by who supervises Triton from now on. None if no request was made."""
        with self._lock:
            self._taken = True
            return self._answer

    def _run(self) -> None:
        while not self._says_yes("/v2/health/live"):
            if self._taken:
                return
            sleep(_POLL_SECONDS)
        if self._says_yes(self._loaded):
            return
        with self._lock:
            if self._taken:
                return
            self._answer = answer = Answer()
            answer.set_running_or_notify_cancel()  # who gives up waiting for it does not end it
        try:
            answer.set_result(self._ask("POST", self._load, _LOAD_SECONDS))
        except (OSError, http.client.HTTPException) as error:
            answer.set_exception(error)

    def _says_yes(self, path: str) -> bool:
        try:
            return self._ask("GET", path, _PROBE_SECONDS)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def _ask(self, verb: str, path: str, seconds: float) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(*self._address, timeout=seconds)
        try:
            connection.request(verb, path, b"{}" if verb == "POST" else None)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

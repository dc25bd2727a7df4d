"""From the gateway's /status to lines for the terminal, and to the moment when the model is ready or can't be loaded.

`Progress` is pure: it is told what was seen and when, and answers with what to print.
"""

import json
from dataclasses import dataclass
from http.client import HTTPException

from localmodel.api.gateway import GatewayStatus
from localmodel.cli.machine import OPENER

REPEAT_SECONDS = 10.0
"""An unchanged state is said again after this long, so that a long load does not look like a hang."""
_LASTING = ("TokenizerMissing", "ChatTemplateMissing")
"""Reasons of a gateway that lacks files of the model: waiting does not help."""


def fetch_status(admin_url: str, timeout_seconds: float = 2.0) -> GatewayStatus | None:
    """What the gateway says about itself and Triton; None while it can't be reached."""
    try:
        with OPENER.open(f"{admin_url}/status", timeout=timeout_seconds) as answer:
            return GatewayStatus.model_validate(json.load(answer))
    except (OSError, ValueError, HTTPException):
        return None


@dataclass
class Progress:
    """Follows the state over time. `was_ready` stays True once the model has been ready."""

    ready: bool = False
    was_ready: bool = False
    failure: str | None = None
    """Why the model can't be served however long one waits: Triton's own message, or what the gateway misses."""
    _since: float = 0.0
    _said: str = ""
    _said_at: float = 0.0

    def see(self, status: GatewayStatus | None, now_seconds: float) -> list[str]:
        """Takes what was seen at `now_seconds` after the start; returns the lines to print."""
        if status and status.ready:
            return self._see_ready(now_seconds)
        if status and (status.backend.state == "LoadFailed" or status.reason in _LASTING):
            self.ready, self.failure = False, status.backend.message or status.message or status.reason
            return []
        state = status.reason if status else "Starting"
        lines = []
        if self.ready:
            self.ready, self._since = False, now_seconds
            lines.append("Not ready any more:")
        message = f": {status.message}" if status and status.message else ""
        if state + message != self._said or now_seconds - self._said_at >= REPEAT_SECONDS:
            self._said, self._said_at = state + message, now_seconds
            if state == "NoEvidence" and not self.was_ready:
                state, message = "Loaded", ": a test request is under way."
            lines.append(f"{now_seconds - self._since:5.0f} s  {state}{message}")
        return lines

    def _see_ready(self, now_seconds: float) -> list[str]:
        if self.ready:
            return []
        again, self._said = self.was_ready, ""
        self.ready = self.was_ready = True
        return [f"Ready again after {now_seconds - self._since:.0f} s"] if again else []

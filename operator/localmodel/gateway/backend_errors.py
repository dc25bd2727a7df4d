"""The ways in which Triton or the engine may fail a request of the channel.

Only what happened is told; what follows from it is decided by whoever asked.
"""

from localmodel.api.channel import Refusal


class BackendUnreachable(Exception):
    """No connection, or it broke before an answer came: whether the request arrived is unknown."""


class BackendSilent(BackendUnreachable):
    """Connected, but no answer in time: hung, or busy."""


class BackendError(Exception):
    """Triton answered that it can't: the model is not loaded, its process died, the request failed."""


class BackendGone(BackendError):
    """Triton answers, but not the model: its process died, it is not loaded (yet), or Triton is full. Nothing ran."""


class BackendGarbage(Exception):
    """An answer that is not the channel's language."""


class Refused(Exception):
    """The engine's typed no."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


_GONE = ("is not healthy", "Request for unknown model")
"""Triton's words for a dead or unloaded model; the status does not tell (400 or 404)."""


def backend_error(message: str, status: int) -> BackendError:
    kind = BackendGone if status == 503 or any(words in message for words in _GONE) else BackendError
    return kind(message)

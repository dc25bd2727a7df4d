"""The end of the gateway's patience: whoever still serves a client then hears it, to say goodbye in its own form.

It knows nothing of drains or requests; it only passes the word on, once.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from localmodel.gateway import errors

OnEnd = Callable[[errors.ApiError], None]


class Ending:
    def __init__(self) -> None:
        self.error: errors.ApiError | None = None
        """Why, once it has come."""
        self._listeners: set[OnEnd] = set()

    @contextmanager
    def heard_by(self, listener: OnEnd) -> Iterator[None]:
        """While the block runs; at once if the end has come."""
        if self.error is not None:
            listener(self.error)
        self._listeners.add(listener)
        try:
            yield
        finally:
            self._listeners.discard(listener)

    def announce(self, error: errors.ApiError) -> None:
        self.error = error
        for listener in list(self._listeners):
            listener(error)

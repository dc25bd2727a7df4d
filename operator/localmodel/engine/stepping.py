"""What an engine of text and one of vectors have in common: several threads ask, one computes step after step.

Why it exists: how that one sleeps, and how others see that a step hangs, is the same. It must not know what a step computes.
"""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable


class Stepping(ABC):
    def __init__(self) -> None:
        self._changed = threading.Condition()
        """Its lock guards all state; it is never held while the device computes."""
        self._stopping = False
        self._step_began: float | None = None
        self.steps_total = 0
        self.tokens_total = 0

    @abstractmethod
    def _has_work(self) -> bool:
        """Also where it is stopping. The caller holds the lock."""

    def wait_for_work(self, quiet_seconds: float | None = None, on_quiet: Callable[[], None] = lambda: None) -> bool:
        """Sleeps until there is something to do; False when the engine is stopping.

        `on_quiet` is called, without the lock, when `quiet_seconds` have passed with nothing to do.
        """
        with self._changed:
            if self._changed.wait_for(self._has_work, quiet_seconds):
                return not self._stopping
        on_quiet()
        with self._changed:
            self._changed.wait_for(self._has_work)
            return not self._stopping

    def step_age_seconds(self) -> float:
        """Seconds since the running step began; 0 between steps. Takes no lock: it must answer while a step hangs."""
        began = self._step_began
        return time.monotonic() - began if began is not None else 0.0

"""How long the engine has said nothing while this process was listening.

The clock alone does not tell: a gateway that was itself stopped or starved for three seconds has heard nothing in them,
whatever was said. So silence grows by looks at it, and time in which nobody looked counts as one look at most. Pure: the clock
is passed in.
"""

LOOK_SECONDS = 0.2
"""The most that one look adds; looks are 0.05 to 0.1 s apart."""


class Silence:
    def __init__(self, now: float) -> None:
        self.seconds = 0.0
        """As of the last look."""
        self._looked_at = now

    def hear(self, now: float) -> None:
        """The engine has just spoken."""
        self.seconds = 0.0
        self._looked_at = now

    def look(self, now: float) -> float:
        """To be called again and again by whoever also lets the stream be read; returns `seconds`."""
        self.seconds += min(max(0.0, now - self._looked_at), LOOK_SECONDS)
        self._looked_at = now
        return self.seconds

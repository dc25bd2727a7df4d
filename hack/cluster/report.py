"""How the cluster commands talk to people, and the one error that means "this machine can't".

Nothing here decides anything.
"""

from __future__ import annotations

import sys
import time

CANNOT_RUN_HERE = 3
_started = time.monotonic()


class Unavailable(Exception):
    """Something vital is missing on this machine; the message is one sentence for the user."""


def say(text: str) -> None:
    print(f"[{time.monotonic() - _started:6.1f}s] {text}", file=sys.stderr, flush=True)

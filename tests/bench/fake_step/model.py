"""The engine in the real Triton with a network that computes nothing: every token is a random one, and a step costs no time.

All else is the engine's own: scheduler, text, events, channel, threads.
"""

import os
import random
import sys
import time

sys.path[:0] = [folder for folder in os.environ.get("LOCALMODEL_PYTHONPATH", "").split(os.pathsep) if folder]

from localmodel.engine import service  # noqa: E402
from localmodel.engine.engine import Launched, at_once  # noqa: E402
from localmodel.engine.loader import LoadedModel  # noqa: E402
from localmodel.engine.sequence import Work  # noqa: E402
from localmodel.engine.triton import TritonPythonModel  # noqa: E402

STEP_SECONDS = float(os.environ.get("FAKE_STEP_SECONDS", "0"))


def make_launch(model: LoadedModel):
    words = random.Random(1).choices(range(1000, model.network_config.vocabulary), k=4096)

    def run(works: list[Work]) -> list[int]:
        time.sleep(STEP_SECONDS)
        first = random.randrange(len(words))
        return [words[(first + place) % len(words)] for place in range(sum(work.choices for work in works))]

    return at_once(run)


for name, replacement in (("make_launch", make_launch), ("Speculation", lambda: None)):
    assert hasattr(service, name), f"the engine has no {name} any more: the bench would measure real steps"
    setattr(service, name, replacement)

__all__ = ["Launched", "TritonPythonModel"]

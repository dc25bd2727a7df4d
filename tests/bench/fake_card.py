"""A card that is not there: its steps take the time that a card's take, one after another, beside what the host does.

    PYTHONPATH=operator:tests:hack python -m bench.fake_card        (the raw engine of `chain_raw`, with such a card)

All else is the engine's own: the step after the running one is planned and launched meanwhile, and the thread that launches
makes small calls of torch for as long as a card's launch takes, which lend the interpreter to other threads as those do. Tokens
are random.
"""

import os
import random
import time
from collections.abc import Callable
from typing import Any

import torch

from bench import chain_raw
from localmodel.engine import service
from localmodel.engine.engine import Launched
from localmodel.engine.sequence import Work

STEP_SECONDS = float(os.environ.get("FAKE_CARD_STEP_SECONDS", "0.0075"))
"""Qwen2.5-7B, 64 streams, one H100."""
PROMPT_SECONDS = float(os.environ.get("FAKE_CARD_PROMPT_SECONDS", "0.002"))
"""More, with prompts."""
HOST_SECONDS = float(os.environ.get("FAKE_CARD_HOST_SECONDS", "0.0009"))
"""Of processor time, to launch."""
BESIDE = 192
"""Prompt tokens of a step in which others decode."""


def make_launch(model: Any) -> Callable[[list[Work]], Launched]:
    words = random.Random(1).choices(range(1000, model.network_config.vocabulary), k=4096)
    small = torch.zeros(64)
    free = 0.0

    def launch(works: list[Work]) -> Launched:
        nonlocal free
        until = time.thread_time() + HOST_SECONDS
        while time.thread_time() < until:
            small.add_(1)
        prompts = not all(work.decodes for work in works)
        free = ready = max(free, time.monotonic()) + STEP_SECONDS + PROMPT_SECONDS * prompts
        count = sum(work.choices for work in works)

        def wait() -> list[int]:
            time.sleep(max(0.0, ready - time.monotonic()))
            return random.sample(words, count)

        return Launched(wait, may_be_followed=True)

    return launch


def install() -> None:
    """Before a model is loaded."""
    for name in ("make_launch", "Scheduler"):
        assert hasattr(service, name), f"the engine has no {name} any more: the bench would measure real steps"
    scheduler = service.Scheduler

    def make_scheduler(*arguments: Any, **options: Any) -> Any:
        return scheduler(*arguments, **{**options, "speculation": None, "beside": lambda decoding, start: BESIDE})

    service.make_launch = make_launch
    service.Scheduler = make_scheduler  # type: ignore[assignment, misc]


if __name__ == "__main__":
    install()
    chain_raw.main()

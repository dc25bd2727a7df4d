"""The engine in the real Triton with fewer blocks than its sequences want, so that they take each other's; preemptions are told
in a file. Of past events it keeps so few that their memory is full after a minute. All else is the engine's own.
"""

import os
import sys
from pathlib import Path

sys.path[:0] = [folder for folder in os.environ.get("LOCALMODEL_PYTHONPATH", "").split(os.pathsep) if folder]

from localmodel.engine import prediction, service  # noqa: E402
from localmodel.engine.memory import MemoryPlan  # noqa: E402
from localmodel.engine.outbox import Outbox  # noqa: E402
from localmodel.engine.scheduler import Scheduler  # noqa: E402
from localmodel.engine.triton import TritonPythonModel  # noqa: E402

BLOCKS = int(os.environ["SMALL_POOL_BLOCKS"])
COUNT = Path(os.environ["SMALL_POOL_PREEMPTIONS"])
KEPT_EVENTS = 4096
plan_blocks = prediction.plan_blocks


def plan_few_blocks(*sizes, most_blocks: int, **limits) -> MemoryPlan:
    return plan_blocks(*sizes, most_blocks=min(BLOCKS, most_blocks), **limits)


class CountingScheduler(Scheduler):
    def _preempt(self, sequence) -> None:
        super()._preempt(sequence)
        COUNT.write_text(str(self.preemptions_total))


prediction.plan_blocks = plan_few_blocks
service.Scheduler = CountingScheduler
Outbox.__init__.__defaults__ = (KEPT_EVENTS,)

__all__ = ["TritonPythonModel"]

"""How a step of a loaded model is launched on its device.

Why it exists: every rank computes steps in the same way, and only the first has an engine around that.
"""

from collections.abc import Callable

from localmodel.engine.engine import Launched, at_once
from localmodel.engine.loader import LoadedModel
from localmodel.engine.runner import Runner
from localmodel.engine.sequence import Work

Launch = Callable[[list[Work]], Launched]


def make_launch(model: LoadedModel) -> Launch:
    network, cache, vocabulary = model.network, model.cache, model.network_config.vocabulary
    if not cache.keys.is_cuda:
        return at_once(Runner(network, cache, vocabulary).run)
    from localmodel.engine.card_modes import RUNNERS  # their kernels need Triton's compiler, which a CPU's torch lacks

    return RUNNERS[model.compile](network, cache, vocabulary).launch

"""Imports torch without what only its compilers need: a quarter of the time that an import takes.

Why it exists: at its end `import torch` describes each of its operators once more in Python, for tensors without memory that
`torch.compile` and `torch.export` trace with. No step of a text generator or an encoder uses that. Who imports these descriptions
later gets them. It must come before anything that imports torch; where torch is there, or has another order, nothing changes.
"""

import sys
from types import ModuleType

DESCRIPTIONS = "torch._meta_registrations"


def import_torch() -> None:
    if "torch" in sys.modules:
        return
    sys.modules[DESCRIPTIONS] = stand_in = ModuleType(DESCRIPTIONS)
    try:
        import torch
    finally:
        if sys.modules.get(DESCRIPTIONS) is stand_in:
            del sys.modules[DESCRIPTIONS]
    if vars(torch).get("_meta_registrations") is stand_in:
        del torch._meta_registrations

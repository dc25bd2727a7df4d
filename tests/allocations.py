"""How much torch's allocator on the CPU held at most, to the byte, where resident memory would be a rough guess."""

from collections.abc import Callable

from torch.autograd import _disable_profiler_legacy, _enable_profiler_legacy
from torch.autograd.profiler import ProfilerConfig, ProfilerState
from torch.profiler import _ExperimentalConfig


def peak_bytes(run: Callable[[], object]) -> int:
    """What tensors and temporaries that `run` made in this thread held at once, at most. Files that it maps count as well.

    By torch's older profiler: the new one looks for cards for 15 seconds first.
    """
    _enable_profiler_legacy(ProfilerConfig(ProfilerState.CPU, False, True, False, False, False, _ExperimentalConfig()))
    try:
        run()
    finally:
        threads = _disable_profiler_legacy()
    held = peak = 0
    for record in (record for thread in threads for record in thread if record.kind() == "memory_alloc"):
        held += record.cpu_memory_usage()
        peak = max(peak, held)
    return peak

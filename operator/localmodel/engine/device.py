"""The device that the engine computes on: whether it works, how much of it may be taken, and a hard wall there.

Why it exists: a card can be absent, broken or full of other processes, and each must be one clear LoadError before any
weight is read. It knows nothing of models.
"""

import torch

from localmodel.api.engine import EngineConfig
from localmodel.engine.errors import DeviceUnavailable, OutOfMemory

GPU_MEMORY_SHARE = 0.8
LEAST_CAPABILITY = (8, 0)
CONTEXT_BYTES = 944 * 2**20
"""What a CUDA process takes of the card beside torch's allocator: 744 MiB after the engine's first steps, 816 with graphs, 914
where weights of 8 or 4 bits meet a sliding window; 934 at most in processes of 70 networks each (H100, CUDA 13, torch 2.11, by
`nvidia-smi`)."""
COMMUNICATION_BYTES = 384 * 2**20
"""What NCCL takes beside that where cards share a network: 346 MiB with two H100s (NCCL 2.28)."""
SLACK_SHARE = 0.01
"""Of the cap, left free: torch's allocator keeps pieces of sizes that the next step may not want."""
WORKSPACE_BYTES = 64 * 2**20
"""What matrix libraries take from torch's allocator; an estimate that covers what was measured."""


def open_device(config: EngineConfig) -> torch.device:
    """Raises DeviceUnavailable. A card has computed something when this returns.

    cuDNN's attention, torch's first choice on an H100, makes a plan for every new length: 36 ms for each of a sequence's
    tokens and each layer, against 0.05 ms without it (torch 2.11). So it is switched off for the process.
    """
    if config.device == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise DeviceUnavailable("device is cuda and no CUDA card is visible; check the node's driver and the pod's GPU limit")
    if config.gpu_count > torch.cuda.device_count():
        raise DeviceUnavailable(f"the model asks for {config.gpu_count} cards and {torch.cuda.device_count()} are visible")
    try:
        device = torch.device("cuda", torch.cuda.current_device())
        torch.ones(1, device=device).add_(1).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise DeviceUnavailable(f"a CUDA card is visible and can't be used: {reason}. Check it with nvidia-smi.") from error
    if config.task == "TextGeneration":
        _check_generation(device)
    torch.backends.cuda.enable_cudnn_sdp(False)
    return device


def _check_generation(device: torch.device) -> None:
    """Our kernels compute in bfloat16. Raises DeviceUnavailable."""
    capability = torch.cuda.get_device_capability(device)
    if capability < LEAST_CAPABILITY:
        least, found = (".".join(map(str, each)) for each in (LEAST_CAPABILITY, capability))
        raise DeviceUnavailable(
            f"{torch.cuda.get_device_name(device)} has compute capability {found}, and text generation needs {least} or more "
            "(Ampere, such as A10 or RTX 30), for bfloat16. Choose another card, or set spec.gpu.count to 0."
        )


def process_bytes(config: EngineConfig) -> int:
    """Of a card, beside torch's allocator."""
    return CONTEXT_BYTES + (COMMUNICATION_BYTES if config.ranks > 1 else 0)


def cap_bytes(config: EngineConfig, device: torch.device) -> int | None:
    """What the engine may take in all; None where nothing was said of a CPU's memory."""
    if device.type == "cpu":
        return config.host_memory_bytes and config.host_memory_bytes // config.ranks
    total = torch.cuda.get_device_properties(device).total_memory
    return config.gpu_memory_bytes or int(total * (config.gpu_memory_share or GPU_MEMORY_SHARE))


def reserve(device: torch.device, cap: int, predicted: int, beside: int = CONTEXT_BYTES) -> None:
    """Makes `cap` a wall for this process, of which `beside` is not its allocator's. Raises OutOfMemory if the card has less than
    `predicted` left."""
    free, total = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    needed = predicted - CONTEXT_BYTES
    if needed > free:
        raise OutOfMemory(
            f"predicted {predicted} bytes, {needed} of them still to be taken, and the card has {free} of {total} bytes free. "
            "Another process holds the rest: give each its share, lower the memory cap, or choose another card."
        )
    torch.cuda.set_per_process_memory_fraction(min(1.0, max(0, cap - beside) / total), device)

"""What a model will take of its device: predicted before it is loaded, on a card measured before the KV cache gets the rest.

Why it exists: the two differ between a CPU, whose memory everything shares, and a card, whose libraries only show what they
take when they have run. The arithmetic is `memory`'s and `host_memory`'s. It loads nothing.
"""

from collections.abc import Sequence

import torch

from localmodel.api.engine import EngineConfig
from localmodel.engine.device import SLACK_SHARE, WORKSPACE_BYTES, process_bytes
from localmodel.engine.families import Decoder
from localmodel.engine.host_memory import PIECES_BYTES, host_bytes
from localmodel.engine.kv_cache import CPU_BLOCK, GPU_BLOCK
from localmodel.engine.memory import LEAST_SLACK_BYTES, SERVER_BYTES, MemoryPlan, fixed_bytes, plan_blocks
from localmodel.engine.network_config import NetworkConfig
from localmodel.engine.packed_weight import can_pack, packing_bytes
from localmodel.engine.quantize import Place
from localmodel.engine.resident import resident_bytes
from localmodel.engine.speculation import MOST_ROWS
from localmodel.engine.words import EMBEDDING

CPU_CHUNK = 64
CPU_BURST = 512
BURST_OPERATIONS = 1.5e11
"""Of one thread in a step while nobody waits for a token: a third of a second with avx512_bf16, in which nobody begins."""
GPU_CHUNK = 256
"""Beside 64 sequences that decode it makes a step of a 7B network half as long again on an H100, not twice."""
GPU_BURST = 2048
MOST_GPU_BLOCKS = 65536
"""4 million tokens; more would be prefixes that nobody asks for again."""

Places = Sequence[tuple[str, Place]]


def predict_plan(
    config: EngineConfig, sizes: NetworkConfig, places: Places, *, tokenizer_file_bytes: int, dtype: torch.dtype,
    cap: int | None,
) -> MemoryPlan:  # fmt: skip
    """`places`: what is to be loaded. Raises OutOfMemory."""
    on_cpu = config.device == "cpu"
    context, batch, element = config.context_window, config.max_batch_size, dtype.itemsize
    weights = sum(place.nbytes for _, place in places)
    rows = batch + MOST_ROWS if on_cpu else batch
    chunk = cpu_burst(config, sum(place.numel() for _, place in places)) if on_cpu else GPU_BURST
    packing = packing_bytes(sizes, dtype, rows + chunk, rows) if on_cpu and can_pack(dtype) else 0
    if on_cpu:
        base = resident_bytes() + SERVER_BYTES + (0 if packing else PIECES_BYTES)
        more = host_bytes(sizes, context=context, chunk=chunk, element_bytes=element, tokenizer_file_bytes=tokenizer_file_bytes)
    else:
        base, more = process_bytes(config) + WORKSPACE_BYTES, 0
    fixed = fixed_bytes(
        sizes, weights_bytes=weights + packing, base_bytes=base + more, context=context, batch=rows, chunk=chunk,
        element_bytes=element,
    )  # fmt: skip
    if on_cpu and can_pack(dtype):
        fixed = max(fixed, base + weights + _reordered_bytes(sizes, places, packing))
    return plan_blocks(
        sizes,
        weights_bytes=weights,
        fixed=fixed,
        context=context,
        most_blocks=batch * -(-context // CPU_BLOCK) if on_cpu else MOST_GPU_BLOCKS,
        block_size=CPU_BLOCK if on_cpu else GPU_BLOCK,
        element_bytes=element,
        cap_bytes=cap,
    )


def cpu_burst(config: EngineConfig, parameters: int) -> int:
    """Prompt tokens of a step in which nobody decodes. oneDNN's products of many rows are faster: with 64 a core makes 340 to 390
    billion operations a second in bfloat16, with 512 460 (EPYC). `parameters`: of this rank."""
    threads = max(1, (config.cpu_threads or torch.get_num_threads()) // config.ranks)
    tokens = int(BURST_OPERATIONS * threads / (2 * parameters))
    return min(CPU_BURST, max(CPU_CHUNK, tokens // CPU_CHUNK * CPU_CHUNK))


def measure_plan(
    config: EngineConfig, sizes: NetworkConfig, network: Decoder, *, dtype: torch.dtype, device: torch.device, cap: int
) -> MemoryPlan:
    """With what the largest step of a loaded network really takes of a card; the KV cache gets the rest. Raises OutOfMemory."""
    from localmodel.engine.sizing import measure_step

    eager = config.compile == "None"
    peak = measure_step(network, sizes, **largest_step(config), eager=eager, dtype=dtype, device=device)
    return plan_blocks(
        sizes,
        weights_bytes=sum(place.nbytes for _, place in network.tensors()),
        fixed=process_bytes(config) + peak + max(LEAST_SLACK_BYTES, int(SLACK_SHARE * cap)),
        context=config.context_window,
        most_blocks=MOST_GPU_BLOCKS,
        block_size=GPU_BLOCK,
        element_bytes=dtype.itemsize,
        cap_bytes=cap,
    )


def largest_step(config: EngineConfig) -> dict[str, int]:
    """Of a card, as `sizing.launch_largest` takes it."""
    slots, context = config.max_batch_size, config.context_window
    return {"slots": slots, "context": context, "prompt_tokens": GPU_BURST, "beside": GPU_CHUNK}


def _reordered_bytes(sizes: NetworkConfig, places: Places, packing: int) -> int:
    """Beside the weights, while they are reordered: one matrix twice; an embedding that is also the head stays twice, if packing
    takes more than weights."""
    if not packing:
        return max(place.nbytes for _, place in places)
    words = sum(place.nbytes for name, place in places if name == EMBEDDING and sizes.tied_embeddings)
    return words + max(place.nbytes for name, place in places if not (name == EMBEDDING and sizes.tied_embeddings))

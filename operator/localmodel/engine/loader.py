"""From an EngineConfig to a network with weights and a KV cache, or to one clear LoadError.

Why it exists: the order matters (files, architecture, context, memory, weights), so that the cheapest check that fails
is the one the user reads. It starts no thread and serves nothing.

dtype `auto` on a CPU: bfloat16 where the processor multiplies it natively, else float32. Measured on an EPYC with
avx512_bf16, one thread, SmolLM2-135M's matrices, torch 2.15, lower quartiles of three runs on a busy machine: bfloat16
takes 0.2-1.1 of float32's time for one row and 0.2-0.5 for eight. Milliseconds, float32 and bfloat16, in the last run:

    matrix       one row           eight rows
    576x576      0.019   0.019     0.081   0.039
    576x3072     0.100   0.052     0.466   0.189
    1536x576     0.047   0.033     0.222   0.086
    576x49152    15.1    3.6       26.0    8.5

Without native instructions it is slower than float32.
"""

import os
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer

from localmodel.api.engine import Compile, EngineConfig
from localmodel.engine.calibration import calibrate
from localmodel.engine.checkpoint import are_different, check_tensors, load_tensors, open_tensors
from localmodel.engine.device import cap_bytes, open_device, process_bytes, reserve
from localmodel.engine.errors import ContextWindowTooLarge, ModelFilesCorrupt, OutOfMemory
from localmodel.engine.families import Decoder, choose_decoder
from localmodel.engine.kv_cache import CPU_BLOCK, GPU_BLOCK, KVCache
from localmodel.engine.model_directory import ModelDirectory, open_model_directory
from localmodel.engine.network_config import NetworkConfig
from localmodel.engine.packed_weight import can_pack, pack_weights
from localmodel.engine.prediction import CPU_CHUNK, GPU_BURST, GPU_CHUNK, cpu_burst, largest_step, measure_plan, predict_plan
from localmodel.engine.progress_file import show_progress
from localmodel.engine.team import Alone, Team
from localmodel.engine.tokenizer import load_tokenizer
from localmodel.engine.words import EMBEDDING, HEAD

WEIGHT_BITS = {"None": 16, "INT8": 8, "INT4": 4}
COMPILE_THREADS = 8
"""At most: a start needs 15 to 30 kernels."""
ALONE = Alone()


@dataclass(frozen=True)
class LoadedModel:
    directory: ModelDirectory
    network_config: NetworkConfig
    network: Decoder
    cache: KVCache
    tokenizer: Tokenizer | None
    """Of the first rank, which speaks with gateways."""
    chunk: int
    """Prompt tokens computed per step while sequences decode."""
    burst: int
    """The same while none does."""
    parameters: int
    weights_bytes: int
    """Of this rank, as are those predicted."""
    predicted_bytes: int
    load_seconds: float
    compile: Compile = "Auto"
    rounding: str = ""
    """What to say of the weights in the log."""


def load_model(config: EngineConfig, team: Team = ALONE) -> LoadedModel:
    """`team`: the ranks that share the network, of which each loads its own share. Raises LoadError."""
    began = time.monotonic()
    directory = open_model_directory(Path(config.model_path))
    family, parse = choose_decoder(directory.architecture)
    sizes = parse(directory.config)
    if sizes.tied_embeddings and are_different(directory.weight_files, EMBEDDING, HEAD):
        sizes = replace(sizes, tied_embeddings=False)  # as transformers: the numbers count, not what config.json says of them
    if config.context_window > sizes.max_context:
        raise ContextWindowTooLarge(
            f"context window {config.context_window} is larger than what the model was made for: limit {sizes.max_context}"
        )
    device = open_device(config)
    if device.type == "cpu" and (config.cpu_threads or config.ranks > 1):
        torch.set_num_threads(threads_of_rank(config))
    dtype = choose_dtype(config)
    sizes = team.begin(replace(sizes, weight_bits=WEIGHT_BITS[config.quantization]))
    on_cpu = device.type == "cpu"
    on_paper = replace(sizes, weight_bits=16) if on_cpu else sizes  # on a CPU weights are rounded and stay dense
    try:
        skeleton = list(family(on_paper, 1, dtype, torch.device("meta")).tensors())
    except RuntimeError as error:
        raise ModelFilesCorrupt(f"config.json asks for tensors that can not be: {error}") from error
    ignored = (HEAD,) if sizes.tied_embeddings else ()
    check_tensors(directory.weight_files, skeleton, ignored)
    parameters = sum(place.numel() for _, place in skeleton)
    block_size = CPU_BLOCK if on_cpu else GPU_BLOCK
    cap = cap_bytes(config, device)
    tokenizer_bytes = directory.tokenizer_file.stat().st_size
    plan = predict_plan(config, sizes, skeleton, tokenizer_file_bytes=tokenizer_bytes, dtype=dtype, cap=cap)
    if cap is not None and not on_cpu:
        reserve(device, cap, plan.predicted_bytes, process_bytes(config))
    try:
        network = family(sizes, config.context_window, dtype, device)
        first = sizes.rank == 0
        with (
            _rehearsing(network, sizes, config, dtype, device),
            show_progress(config.channel_token_file, directory.weight_files, began)
            if first
            else nullcontext(_hear_nothing) as on_read,
        ):
            load_tensors(directory.weight_files, network.tensors(), ignored, on_read)
            tokenizer = load_tokenizer(directory.tokenizer_file) if first else None  # while the last kernels are compiled
        team.meet(device)
        rounding = ""
        if sizes.weight_bits == 4:
            room = None if cap is None else cap - plan.fixed_bytes
            with open_tensors(directory.weight_files) as read:
                rounding = calibrate(
                    network, sizes, directory.tokenizer_file, read, context=config.context_window, dtype=dtype, device=device,
                    room=room,
                )  # fmt: skip
            if not on_cpu:
                torch.cuda.empty_cache()
        if on_cpu and can_pack(dtype):
            pack_weights(network)
        if cap is not None and not on_cpu:
            plan = measure_plan(config, sizes, network, dtype=dtype, device=device, cap=cap)
        blocks = team.agree_on(plan.blocks)
        cache = KVCache.allocate(sizes, blocks, block_size, config.max_batch_size, config.context_window, dtype, device)
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(f"predicted {plan.predicted_bytes} bytes, and the card gave less: {error}") from error
    return LoadedModel(
        directory=directory,
        network_config=sizes,
        network=network,
        cache=cache,
        tokenizer=tokenizer,
        chunk=CPU_CHUNK if on_cpu else GPU_CHUNK,
        burst=cpu_burst(config, parameters) if on_cpu else GPU_BURST,
        parameters=parameters,
        weights_bytes=sum(place.nbytes for _, place in skeleton),
        predicted_bytes=plan.predicted_bytes,
        load_seconds=time.monotonic() - began,
        compile=config.compile,
        rounding=rounding,
    )


def _hear_nothing(count: int) -> None:
    pass


def _rehearsing(
    network: Decoder, sizes: NetworkConfig, config: EngineConfig, dtype: torch.dtype, device: torch.device
) -> AbstractContextManager[None]:
    """By the first of several ranks: the others' shares need the same kernels, and they wait for it before they need one."""
    if device.type == "cpu" or sizes.rank:
        return nullcontext()
    from localmodel.engine.rehearsal import rehearsing

    threads = min(COMPILE_THREADS, config.cpu_threads or len(os.sched_getaffinity(0)))
    every = config.compile == "Max"
    return rehearsing(network, sizes, threads=threads, every_graph=every, dtype=dtype, device=device, **largest_step(config))


def threads_of_rank(config: EngineConfig) -> int:
    """Ranks on a CPU share it."""
    return max(1, (config.cpu_threads or torch.get_num_threads()) // config.ranks)


def choose_dtype(config: EngineConfig) -> torch.dtype:
    if config.dtype != "auto":
        return torch.float32 if config.dtype == "float32" else torch.bfloat16
    if config.device == "cuda":
        return torch.bfloat16
    capabilities = torch.cpu.get_capabilities()
    native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("arm_bf16")
    return torch.bfloat16 if native else torch.float32

"""From an EngineConfig to an encoder with weights, or to one clear LoadError.

Why it exists: an embedding model has no KV cache and no sampling, so what must fit and in which order it is checked is another
question than a text generator's. It starts no thread and serves nothing.

dtype `auto` is float32 on a CPU and bfloat16 on a card: vectors are compared with others made on other days, and on a CPU
these networks are small enough to be exact.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from localmodel.api.engine import EngineConfig
from localmodel.engine.bert import IGNORED, BertConfig, BertNetwork, parse_bert_config
from localmodel.engine.checkpoint import check_tensors, load_tensors
from localmodel.engine.device import CONTEXT_BYTES, WORKSPACE_BYTES, cap_bytes, open_device, reserve
from localmodel.engine.encoder import Encoder
from localmodel.engine.errors import ContextWindowTooLarge, OutOfMemory
from localmodel.engine.families import check_encoder
from localmodel.engine.memory import SERVER_BYTES
from localmodel.engine.model_directory import ModelDirectory, open_model_directory
from localmodel.engine.pooling import read_pooling
from localmodel.engine.progress_file import show_progress
from localmodel.engine.resident import resident_bytes

CPU_BATCH_TOKENS = 2048
GPU_BATCH_TOKENS = 65536
STATE_BYTES = 4
"""Vectors are pooled in float32."""


@dataclass(frozen=True)
class LoadedEncoder:
    directory: ModelDirectory
    config: BertConfig
    encoder: Encoder
    batch_tokens: int
    dtype: torch.dtype
    device: torch.device
    parameters: int
    weights_bytes: int
    predicted_bytes: int
    load_seconds: float


def load_encoder(config: EngineConfig) -> LoadedEncoder:
    """Raises LoadError."""
    began = time.monotonic()
    directory = open_model_directory(Path(config.model_path))
    check_encoder(directory.architecture)
    sizes = parse_bert_config(directory.config)
    pooling = read_pooling(directory.path)
    if config.context_window > sizes.max_context:
        raise ContextWindowTooLarge(
            f"context window {config.context_window} is larger than what the model was made for: limit {sizes.max_context}"
        )
    device = open_device(config)
    on_cpu = device.type == "cpu"
    if on_cpu and config.cpu_threads:
        torch.set_num_threads(config.cpu_threads)
    dtype = torch.bfloat16 if config.dtype == "bfloat16" or (config.dtype == "auto" and not on_cpu) else torch.float32
    batch_tokens = max(config.context_window, CPU_BATCH_TOKENS if on_cpu else GPU_BATCH_TOKENS)
    skeleton = BertNetwork(sizes, dtype, torch.device("meta"))
    check_tensors(directory.weight_files, skeleton.tensors(), IGNORED)
    parameters = sum(place.numel() for _, place in skeleton.tensors())
    weights_bytes = parameters * dtype.itemsize
    base = resident_bytes() + SERVER_BYTES if on_cpu else CONTEXT_BYTES + WORKSPACE_BYTES
    predicted = base + weights_bytes + activation_bytes(sizes, batch_tokens, dtype.itemsize)
    cap = cap_bytes(config, device)
    if cap is not None and predicted > cap:
        raise OutOfMemory(
            f"predicted {predicted} bytes for weights ({weights_bytes}), a batch of {batch_tokens} tokens and the process itself "
            f"({base}); the cap is {cap} bytes. Raise the memory limit."
        )
    if cap is not None and not on_cpu:
        reserve(device, cap, predicted)
    try:
        network = BertNetwork(sizes, dtype, device)
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(f"predicted {predicted} bytes, and the card gave less: {error}") from error
    with show_progress(config.channel_token_file, directory.weight_files, began) as on_read:
        load_tensors(directory.weight_files, network.tensors(), IGNORED, on_read)
    return LoadedEncoder(
        directory=directory,
        config=sizes,
        encoder=Encoder(network, pooling, device, batch_tokens, config.max_batch_size),
        batch_tokens=batch_tokens,
        dtype=dtype,
        device=device,
        parameters=parameters,
        weights_bytes=weights_bytes,
        predicted_bytes=predicted,
        load_seconds=time.monotonic() - began,
    )


def activation_bytes(config: BertConfig, tokens: int, element_bytes: int) -> int:
    """Largest set of temporaries of one batch: a layer's, or the pooling's."""
    layer = tokens * (8 * config.hidden + 2 * config.intermediate) * element_bytes
    return layer + 2 * tokens * config.hidden * STATE_BYTES

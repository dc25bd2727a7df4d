"""The files of one model as text: model.json for the engine, config.pbtxt for Triton, gateway.json for the gateway.

Pure in (model, Layout): a pod and `localmodel run` differ in paths, hosts, ports and sizes only, so both use
`render_files(model, layout)` and `triton_command(layout, gpus)`. Nothing that differs between two pods of one revision may
stand in a file.
"""

import json
from dataclasses import dataclass
from typing import Literal

from localmodel.api import constants
from localmodel.api.engine import EngineConfig
from localmodel.api.gateway import Breaker, Concurrency, GatewaySettings, KeyLimits, LogFile, Retries, Timeouts
from localmodel.api.localmodel import LocalModel
from localmodel.api.request_log import GatewayLogging
from localmodel.api.values import parse_bytes, parse_duration, parse_memory_cap
from localmodel.core.names import served_names
from localmodel.core.triton import render_config_pbtxt, tritonserver_command

_BATCHES_AT_ONCE = 2
"""Of a Predict model: while one batch is computed, Triton collects the next."""


@dataclass(frozen=True)
class Layout:
    """Where things are and how much there is. The defaults are those of a pod."""

    model_path: str
    """The model's directory, as both processes see it."""
    device: Literal["cpu", "cuda"] = "cpu"
    host_memory_bytes: int | None = None
    cpu_threads: int | None = None
    tritonserver: str = "/opt/tritonserver/bin/tritonserver"
    backends: str = "/opt/tritonserver/backends"
    repository: str = constants.REPOSITORY_MOUNT
    triton_host: str = "127.0.0.1"
    triton_port: int = constants.TRITON_HTTP_PORT
    serving_host: str = "0.0.0.0"
    serving_port: int = constants.SERVING_PORT
    admin_host: str = "0.0.0.0"
    admin_port: int = constants.ADMIN_PORT
    channel_token_file: str = constants.CHANNEL_TOKEN_FILE
    keys_directory: str = constants.KEYS_MOUNT
    """Of API keys, if they are asked for."""
    log_directory: str = constants.LOG_MOUNT
    log_key_file: str = constants.LOG_KEY_FILE
    """Empty where there is none."""
    endpoint_removal_seconds: float = 3.0
    """0 where no endpoint has to be removed first: on a single machine."""
    step_timeout_seconds: float = 30.0


@dataclass(frozen=True)
class Files:
    model_json: str
    config_pbtxt: str
    gateway_json: str

    def as_dict(self) -> dict[str, str]:
        """Text by the file's name."""
        return {
            constants.FILE_MODEL_JSON: self.model_json,
            constants.FILE_CONFIG_PBTXT: self.config_pbtxt,
            constants.FILE_GATEWAY_JSON: self.gateway_json,
        }


def render_files(model: LocalModel, layout: Layout) -> Files:
    engine = build_engine_config(model, layout).model_dump(mode="json", exclude_none=True)
    gateway = build_gateway_settings(model, layout).model_dump(mode="json")
    return Files(_json(engine), render_config_pbtxt(), _json(gateway))


def triton_command(layout: Layout, gpus: int) -> list[str]:
    return tritonserver_command(
        program=layout.tritonserver,
        repository=layout.repository,
        backends=layout.backends,
        host=layout.triton_host,
        port=layout.triton_port,
        gpus=gpus,
    )


def build_engine_config(model: LocalModel, layout: Layout) -> EngineConfig:
    spec, gpu = model.spec, model.spec.gpu
    cap = parse_memory_cap(gpu.memory) if gpu.count else None
    predicts = spec.model.task == "Predict"
    return EngineConfig(
        model_path=layout.model_path,
        model_version=spec.model.version,
        task=spec.model.task,
        format=spec.model.format if predicts else None,
        tensors=spec.model.config if predicts else None,
        context_window=spec.context_window,
        max_batch_size=spec.max_batch_size,
        device=layout.device,
        quantization=spec.quantization,
        compile=spec.runtime.compile,
        gpu_count=gpu.count if layout.device == "cuda" else 0,
        gpu_memory_share=cap if isinstance(cap, float) else None,
        gpu_memory_bytes=cap if isinstance(cap, int) else None,
        host_memory_bytes=layout.host_memory_bytes,
        cpu_threads=layout.cpu_threads,
        channel_token_file=layout.channel_token_file,
    )


def serves_page(model: LocalModel) -> bool:
    """Others can't chat."""
    return model.spec.gateway.page and model.spec.model.task == "TextGeneration"


def build_gateway_settings(model: LocalModel, layout: Layout) -> GatewaySettings:
    spec, gateway = model.spec, model.spec.gateway
    return GatewaySettings(
        model_name=model.name,
        namespace=model.namespace,
        served_names=served_names(model),
        model_version=spec.model.version,
        task=spec.model.task,
        batch_delay_seconds=_batch_delay_seconds(model),
        model_path=layout.model_path,
        context_window=spec.context_window,
        max_batch_size=spec.max_batch_size,
        serving_host=layout.serving_host,
        serving_port=layout.serving_port,
        admin_host=layout.admin_host,
        admin_port=layout.admin_port,
        triton_url=f"http://{layout.triton_host}:{layout.triton_port}",
        channel_token_file=layout.channel_token_file,
        timeouts=Timeouts(
            queue_seconds=parse_duration(gateway.timeouts.queue),
            first_token_seconds=parse_duration(gateway.timeouts.first_token),
            idle_seconds=parse_duration(gateway.timeouts.idle),
            total_seconds=parse_duration(gateway.timeouts.total),
        ),
        concurrency=Concurrency(
            max=gateway.concurrency.max or (_BATCHES_AT_ONCE * spec.max_batch_size if spec.model.task == "Predict" else 0),
            queue=gateway.concurrency.queue,
            queue_bytes=parse_bytes(gateway.concurrency.queue_bytes),
        ),
        retries=Retries(attempts=gateway.retries.attempts, budget_percent=gateway.retries.budget_percent),
        breaker=Breaker(failures=gateway.breaker.failures, open_seconds=parse_duration(gateway.breaker.open_for)),
        long_input=gateway.long_input,
        keys_directory=layout.keys_directory if gateway.auth.mode == "APIKey" else None,
        limits=tuple(KeyLimits.model_validate(each.model_dump()) for each in gateway.limits),
        page=serves_page(model),
        log_mode=gateway.logging.mode,
        redact=gateway.logging.redact,
        redact_patterns=gateway.logging.redact_patterns,
        log_file=_build_log_file(gateway.logging, layout),
        log_key_file=layout.log_key_file or None if gateway.logging.chain_key_ref else None,
        endpoint_removal_seconds=layout.endpoint_removal_seconds,
        step_timeout_seconds=layout.step_timeout_seconds,
    )


def _batch_delay_seconds(model: LocalModel) -> float:
    config = model.spec.model.config
    return parse_duration(config.batch_delay) if config and config.batch_delay else 0


def _build_log_file(logging: GatewayLogging, layout: Layout) -> LogFile | None:
    if logging.file is None:
        return None
    max_bytes = parse_bytes(logging.file.max_size)
    return LogFile(directory=layout.log_directory, max_bytes=max_bytes, max_files=logging.file.max_files)


def _json(document: object) -> str:
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"

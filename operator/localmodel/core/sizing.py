"""What one replica reserves: CPU, memory, disk and GPUs of the serving container, and the memory plan behind it.

Weights are not known before they are read, so host memory is a plan from settings: a base, and on the CPU a share for
each 1,000 tokens of context x batch. The engine checks the real numbers against the limit when it loads.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from localmodel.api.localmodel import LocalModel
from localmodel.api.values import parse_bytes, parse_quantity
from localmodel.core.options import GatewayDefaults, Options, amount_bytes
from localmodel.core.quantities import format_cpu, format_memory

_FILE_SLACK_BYTES = 64 * 1024


@dataclass(frozen=True)
class Sizing:
    """Requests and limits of the container that runs the model, in plain numbers."""

    cpu_request: Decimal
    cpu_limit: Decimal
    memory_request: int
    memory_limit: int
    storage_request: int
    storage_limit: int
    planned_bytes: int
    """What we think one replica needs in host memory, whatever the user wrote."""
    gpus: int
    gpu_resource: str

    @property
    def cpu_threads(self) -> int:
        return max(1, int(self.cpu_limit))

    def resources(self) -> dict[str, Any]:
        gpus = {self.gpu_resource: str(self.gpus)} if self.gpus else {}
        return {
            "requests": {
                "cpu": format_cpu(self.cpu_request),
                "memory": format_memory(self.memory_request),
                "ephemeral-storage": format_memory(self.storage_request),
                **gpus,
            },
            "limits": {
                "cpu": format_cpu(self.cpu_limit),
                "memory": format_memory(self.memory_limit),
                "ephemeral-storage": format_memory(self.storage_limit),
                **gpus,
            },
        }

    def describe(self) -> str:
        """The wish in words, to stand beside the scheduler's numbers."""
        gpus = f", {self.gpus} {self.gpu_resource}" if self.gpus else ""
        return f"cpu {format_cpu(self.cpu_request)}, memory {format_memory(self.memory_request)}{gpus}"


def derive_sizing(model: LocalModel, options: Options) -> Sizing:
    spec, engine = model.spec, options.engine
    planned = planned_memory_bytes(model, options)
    requests, limits = spec.resources.requests, spec.resources.limits
    cpu = _pair(requests.cpu, limits.cpu, parse_quantity(engine.cpu_request), parse_quantity(engine.cpu_limit))
    memory = _pair(requests.memory, limits.memory, Decimal(planned), Decimal(planned))
    storage = _pair(
        requests.ephemeral_storage,
        limits.ephemeral_storage,
        parse_quantity(engine.ephemeral_storage_request),
        parse_quantity(engine.ephemeral_storage_limit),
    )
    return Sizing(
        cpu_request=cpu[0],
        cpu_limit=cpu[1],
        memory_request=int(memory[0]),
        memory_limit=int(memory[1]),
        storage_request=int(storage[0]),
        storage_limit=int(storage[1]),
        planned_bytes=planned,
        gpus=spec.gpu.count,
        gpu_resource=spec.gpu.resource_name,
    )


def planned_memory_bytes(model: LocalModel, options: Options) -> int:
    spec, engine = model.spec, options.engine
    shared = amount_bytes(engine.shared_memory)
    if spec.gpu.count:
        return amount_bytes(engine.memory_base_gpu) + (spec.gpu.count - 1) * amount_bytes(engine.memory_rank) + shared
    if spec.model.task == "Predict":
        return amount_bytes(engine.memory_base) + shared
    tokens = spec.context_window * spec.max_batch_size
    return amount_bytes(engine.memory_base) + shared + amount_bytes(engine.memory_per_thousand_tokens) * tokens // 1000


def log_files_bytes(model: LocalModel) -> int:
    """What the files of the request log may take, with room for what a file system adds; 0 without files."""
    file = model.spec.gateway.logging.file
    return (parse_bytes(file.max_size) + _FILE_SLACK_BYTES) * file.max_files if file else 0


def gateway_resources(defaults: GatewayDefaults, log_bytes: int) -> dict[str, Any]:
    """`log_bytes`: of log files, beside what the settings give."""
    return {
        "requests": {
            "cpu": format_cpu(parse_quantity(defaults.cpu_request)),
            "memory": format_memory(amount_bytes(defaults.memory_request)),
            "ephemeral-storage": format_memory(amount_bytes(defaults.ephemeral_storage_request) + log_bytes),
        },
        "limits": {
            "cpu": format_cpu(parse_quantity(defaults.cpu_limit)),
            "memory": format_memory(amount_bytes(defaults.memory_limit)),
            "ephemeral-storage": format_memory(amount_bytes(defaults.ephemeral_storage_limit) + log_bytes),
        },
    }


def _pair(
    request: str | int | float | None, limit: str | int | float | None, default_request: Decimal, default_limit: Decimal
) -> tuple[Decimal, Decimal]:
    """A missing limit is the larger of our default and the request; a missing request never exceeds the limit."""
    asked = None if request is None else parse_quantity(request)
    top = max(default_limit, asked or Decimal(0)) if limit is None else parse_quantity(limit)
    return (min(default_request, top) if asked is None else asked), top

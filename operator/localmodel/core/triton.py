"""Triton's side of one model: config.pbtxt and the command line. The one source for pods and for `localmodel run`.

Triton starts without a model and the gateway asks for the load, so that its port answers at once and the engine's own
error message reaches the user. The engine places itself on the GPU: to Triton it is a CPU instance always.
"""

from localmodel.api import channel, constants

_CONFIG = f"""\
name: "{constants.TRITON_MODEL_NAME}"
backend: "python"
max_batch_size: 0
model_transaction_policy {{
  decoupled: true
}}
input [
  {{
    name: "{channel.REQUEST}"
    data_type: TYPE_STRING
    dims: [ 1 ]
  }}
]
output [
  {{
    name: "{channel.RESPONSE}"
    data_type: TYPE_STRING
    dims: [ 1 ]
  }}
]
instance_group [
  {{
    kind: KIND_CPU
    count: 1
  }}
]
"""


def render_config_pbtxt() -> str:
    return _CONFIG


def without_pools(gpus: int) -> list[str]:
    """Flags without which Triton takes 256 MiB of the host and 64 MiB of each card, for tensors that it moves between them
    itself. Here it moves none."""
    return ["--pinned-memory-pool-byte-size=0", *(f"--cuda-memory-pool-byte-size={card}:0" for card in range(gpus))]


def without_cards() -> dict[str, str]:
    """Environment in which Triton sees no card, of which it would take 518 MiB to be ready for one. The shim undoes it for the
    engine, whose process Triton starts."""
    return {"CUDA_VISIBLE_DEVICES": "", "LOCALMODEL_CARDS_HIDDEN": "1"}


def tritonserver_command(*, program: str, repository: str, backends: str, host: str, port: int, gpus: int) -> list[str]:
    """On the loopback only, without gRPC and metrics: everything a client may reach goes through the gateway."""
    return [
        program,
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        "--model-control-mode=explicit",
        "--disable-auto-complete-config",
        "--exit-timeout-secs=3",
        f"--http-address={host}",
        f"--http-port={port}",
        "--allow-grpc=false",
        "--allow-metrics=false",
        "--log-format=ISO8601",
        *without_pools(gpus),
    ]

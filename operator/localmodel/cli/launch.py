"""From a file and options to what can be started: the two commands and the files that they read.

Everything that a user can put right is checked here, before anything runs. What the files contain is decided in core,
for a pod and for this machine alike; here it is only said where things are.
"""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import localmodel
from localmodel.api import constants
from localmodel.api.localmodel import LocalModel
from localmodel.api.predict import Task
from localmodel.api.values import parse_duration
from localmodel.cli.ask import KEY_VARIABLE
from localmodel.cli.document import read_localmodel
from localmodel.cli.machine import HOST, check_gpus, check_port, count_gpus, find_free_port
from localmodel.cli.problems import Problem
from localmodel.cli.sources import find_model_directory, parse_claims
from localmodel.cli.triton_runtime import TritonNotFound
from localmodel.cli.triton_runtime import triton_command as find_triton
from localmodel.core.names import served_names
from localmodel.core.options import Images, Options
from localmodel.core.render import Layout, render_files, serves_page, triton_command
from localmodel.core.sizing import derive_sizing

SOURCE_ROOT = Path(localmodel.__file__).parents[1]
SHIMS = SOURCE_ROOT.parent / "model_repo"
DRAIN_MARGIN_SECONDS = 10.0


@dataclass(frozen=True)
class RunOptions:
    """The command line of `localmodel run`."""

    file: Path
    claims: tuple[str, ...] = ()
    port: int = constants.SERVING_PORT
    admin_port: int = constants.ADMIN_PORT
    question: str | None = None
    logs: Path | None = None
    keys: Path | None = None


@dataclass(frozen=True)
class Launch:
    """All that starting and watching needs to know."""

    model_name: str
    served_name: str
    base_url: str
    admin_url: str
    triton_argv: Sequence[str]
    triton_env: Mapping[str, str]
    gateway_argv: Sequence[str]
    gateway_env: Mapping[str, str]
    logs: Path
    drain_seconds: float
    """Longest time that the gateway may take to finish running answers."""
    notes: tuple[str, ...] = ()
    page_url: str = ""
    """Empty without a chat page."""
    task: Task = "TextGeneration"
    keyed: bool = False
    """Whether requests need an API key."""


def prepare(options: RunOptions, directory: Path) -> Launch:
    """Checks everything, then writes the files into `directory`. Raises Problem."""
    model, notes = read_localmodel(options.file)
    model_directory = find_model_directory(model, parse_claims(list(options.claims), os.environ))
    if model.spec.gpu.count:
        check_gpus(model.spec.gpu.count, count_gpus())
    if options.port == options.admin_port:
        raise Problem(f"--port and --admin-port are both {options.port}; choose two ports.")
    check_port(options.port, "--port")
    check_port(options.admin_port, "--admin-port")
    if options.question is not None and model.spec.model.task != "TextGeneration":
        raise Problem(f"--ask asks a question, and the task of this model is {model.spec.model.task}; run it without --ask.")
    _check_keys(model, options)
    if model.spec.gateway.logging.chain_key_ref:
        notes = (*notes, "spec.gateway.logging.chainKeyRef: there is no Secret here; the log is chained without a key.")
    logs = options.logs.absolute() if options.logs else directory
    logs.mkdir(parents=True, exist_ok=True)
    repository, port = directory / "repository", find_free_port()
    try:
        triton = find_triton(repository, directory, port)
    except TritonNotFound as error:
        raise Problem(f"{error}.") from None
    layout = _build_layout(model, model_directory, options, directory, triton.argv[0], port)
    settings = _write_files(model, layout, directory)
    return Launch(
        model_name=model.name,
        served_name=served_names(model)[0],
        task=model.spec.model.task,
        keyed=model.spec.gateway.auth.mode == "APIKey",
        base_url=f"http://{HOST}:{options.port}/v1",
        admin_url=f"http://{HOST}:{options.admin_port}",
        triton_argv=[
            *triton_command(layout, model.spec.gpu.count),
            f"--backend-config=python,shm-region-prefix-name={directory.name}",
        ],
        triton_env=triton.env,
        gateway_argv=[sys.executable, "-m", "localmodel.gateway", "--settings", str(settings)],
        gateway_env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(SOURCE_ROOT), os.environ.get("PYTHONPATH")]))},
        logs=logs,
        drain_seconds=parse_duration(model.spec.gateway.timeouts.total) + DRAIN_MARGIN_SECONDS,
        notes=notes,
        page_url=f"http://{HOST}:{options.port}/" if serves_page(model) else "",
    )


def _check_keys(model: LocalModel, options: RunOptions) -> None:
    """There is no Secret here: a directory stands for it."""
    if model.spec.gateway.auth.mode != "APIKey":
        return
    if options.keys is None:
        raise Problem(
            "spec.gateway.auth asks for API keys. Make one with `localmodel key create NAME --into DIR`, and give --keys DIR."
        )
    if not options.keys.is_dir():
        raise Problem(f"There is no directory {options.keys}; `localmodel key create NAME --into {options.keys}` makes it.")
    if options.question is not None and not os.environ.get(KEY_VARIABLE):
        raise Problem(f"--ask needs a key, because spec.gateway.auth asks for one; put it into {KEY_VARIABLE}.")


def _build_layout(
    model: LocalModel, model_directory: Path, options: RunOptions, directory: Path, tritonserver: str, triton_port: int
) -> Layout:
    """As in a pod, but on the loopback only, with free choice of ports, and no endpoint that has to be removed first."""
    sizing = derive_sizing(model, Options(images=Images(triton="none", gateway="none")))
    return Layout(
        model_path=str(model_directory),
        device="cuda" if model.spec.gpu.count else "cpu",
        host_memory_bytes=sizing.memory_limit,
        cpu_threads=min(sizing.cpu_threads, os.cpu_count() or 1),
        tritonserver=tritonserver,
        backends=str(directory / "backends"),
        repository=str(directory / "repository"),
        triton_host=HOST,
        triton_port=triton_port,
        serving_host=HOST,
        serving_port=options.port,
        admin_host=HOST,
        admin_port=options.admin_port,
        channel_token_file=str(directory / "channel-token"),
        keys_directory=str(options.keys.absolute()) if options.keys else "",
        log_directory=str(options.logs.absolute() if options.logs else directory),
        log_key_file="",
        endpoint_removal_seconds=0,
    )


def _write_files(model: LocalModel, layout: Layout, directory: Path) -> Path:
    """Triton's repository and the gateway's settings, whose path is returned."""
    if not SHIMS.is_dir():
        raise Problem(f"{SHIMS} is missing; run `localmodel` from a checkout of the project (pip install -e .).")
    version = Path(layout.repository) / constants.TRITON_MODEL_NAME / "1"
    version.mkdir(parents=True)
    places = {
        constants.FILE_MODEL_JSON: version,
        constants.FILE_CONFIG_PBTXT: version.parent,
        constants.FILE_GATEWAY_JSON: directory,
    }
    for name, text in render_files(model, layout).as_dict().items():
        (places[name] / name).write_text(text, encoding="utf-8")
    for name in (constants.TRITON_MODEL_NAME, constants.TRITON_PREDICT_NAME):
        place = Path(layout.repository) / name / "1"
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SHIMS / name / "1" / "model.py", place / "model.py")
    return directory / constants.FILE_GATEWAY_JSON

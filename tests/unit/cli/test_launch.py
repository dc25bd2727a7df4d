"""What `localmodel run` would start: the files, the two commands, and what is refused before anything starts."""

import dataclasses
import json
import socket
from pathlib import Path

import pytest

from localmodel.api.engine import EngineConfig
from localmodel.api.gateway import GatewaySettings
from localmodel.cli import launch, triton_runtime
from localmodel.cli.__main__ import main
from localmodel.cli.launch import RunOptions, prepare
from localmodel.cli.machine import find_free_port
from localmodel.cli.problems import Problem

EXAMPLE = Path(__file__).parents[3] / "examples" / "smollm2.yaml"


@pytest.fixture
def options(tmp_path: Path) -> RunOptions:
    (tmp_path / "models" / "smollm2-135m-instruct").mkdir(parents=True)
    return RunOptions(EXAMPLE, (f"models={tmp_path / 'models'}",), find_free_port(), find_free_port())


def with_spec(tmp_path: Path, old: str, new: str) -> Path:
    file = tmp_path / "model.yaml"
    file.write_text(EXAMPLE.read_text().replace(old, new))
    return file


def test_the_files_are_complete_and_agree(options, tmp_path):
    directory = tmp_path / "private"
    directory.mkdir()
    started = prepare(options, directory)
    version = directory / "repository" / "llm" / "1"
    engine = EngineConfig.model_validate_json((version / "model.json").read_text())
    gateway = GatewaySettings.model_validate_json((directory / "gateway.json").read_text())
    assert engine.model_path == gateway.model_path == str(tmp_path / "models" / "smollm2-135m-instruct")
    assert engine.channel_token_file == gateway.channel_token_file
    assert Path(engine.channel_token_file).parent == directory
    assert (engine.device, engine.context_window, engine.max_batch_size) == ("cpu", 2048, 4)
    assert (version / "model.py").is_file()
    assert (version.parent / "config.pbtxt").is_file()
    assert f"--http-port={gateway.triton_url.rsplit(':', 1)[1]}" in started.triton_argv
    assert f"--model-repository={directory / 'repository'}" in started.triton_argv
    assert Path(started.triton_argv[0]).is_file()
    assert started.gateway_argv[-1] == str(directory / "gateway.json")
    assert started.base_url == f"http://127.0.0.1:{options.port}/v1"


def test_everything_listens_on_the_loopback_only(options, tmp_path):
    started = prepare(options, tmp_path)
    gateway = json.loads((tmp_path / "gateway.json").read_text())
    assert gateway["serving_host"] == gateway["admin_host"] == "127.0.0.1"
    assert gateway["triton_url"].startswith("http://127.0.0.1:")
    assert "--http-address=127.0.0.1" in started.triton_argv
    assert "--allow-grpc=false" in started.triton_argv
    assert "--allow-metrics=false" in started.triton_argv


def test_the_same_port_twice(options, tmp_path):
    with pytest.raises(Problem, match="choose two ports"):
        prepare(RunOptions(options.file, options.claims, options.port, options.port), tmp_path)


def test_a_taken_admin_port(options, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(Problem, match="choose another with --admin-port"):
        prepare(RunOptions(options.file, options.claims, options.port, taken.getsockname()[1]), tmp_path)


def test_cards_that_are_not_there(options, tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "count_gpus", lambda: 1)
    file = with_spec(tmp_path, "count: 0", "count: 2")
    with pytest.raises(Problem, match="this machine has 1 NVIDIA GPUs"):
        prepare(RunOptions(file, options.claims, options.port, options.admin_port), tmp_path)


def test_a_card_means_cuda(options, tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "count_gpus", lambda: 1)
    file = with_spec(tmp_path, "count: 0", "count: 1")
    prepare(RunOptions(file, options.claims, options.port, options.admin_port), tmp_path)
    assert json.loads((tmp_path / "repository/llm/1/model.json").read_text())["device"] == "cuda"


def test_problems_are_one_sentence_on_standard_error(tmp_path, capsys):
    assert main(["run", str(tmp_path / "absent.yaml")]) == 2
    assert main(["validate", str(with_spec(tmp_path, "gpu:", "gpus:"))]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 2
    assert "unknown field spec.gpus" in said.err


def test_a_good_file_is_valid(capsys):
    assert main(["validate", str(EXAMPLE)]) == 0
    assert "LocalModel smollm2 is valid" in capsys.readouterr().out


@pytest.mark.parametrize("port", ["0", "65536", "http"])
def test_a_port_that_is_none(port, capsys):
    with pytest.raises(SystemExit) as end:
        main(["run", str(EXAMPLE), "--port", port])
    assert end.value.code == 2
    assert "is not a port" in capsys.readouterr().err


def test_a_python_without_its_shared_library_is_told_what_to_install(monkeypatch):
    def fail(name):
        raise OSError(name)

    monkeypatch.setattr(triton_runtime.sysconfig, "get_config_var", lambda name: "/nowhere")
    monkeypatch.setattr(triton_runtime.ctypes, "CDLL", fail)
    with pytest.raises(triton_runtime.TritonNotFound, match=r"apt-get install libpython3\.11"):
        triton_runtime._check_libpython("3.11")


def test_keys_are_asked_for_where_the_spec_does(options, tmp_path, monkeypatch):
    monkeypatch.delenv("LOCALMODEL_API_KEY", raising=False)
    auth = "  gateway: {auth: {mode: APIKey, secretRef: {name: keys}}}\n"
    file = tmp_path / "model.yaml"
    file.write_text(EXAMPLE.read_text().rstrip() + "\n" + auth)
    places = {"file": file, "claims": options.claims, "port": options.port, "admin_port": options.admin_port}
    with pytest.raises(Problem, match="give --keys DIR"):
        prepare(RunOptions(**places), tmp_path)
    with pytest.raises(Problem, match="There is no directory"):
        prepare(RunOptions(**places, keys=tmp_path / "none"), tmp_path)
    (tmp_path / "keys").mkdir()
    with pytest.raises(Problem, match="LOCALMODEL_API_KEY"):
        prepare(RunOptions(**places, keys=tmp_path / "keys", question="Why?"), tmp_path)
    prepare(RunOptions(**places, keys=tmp_path / "keys"), tmp_path)
    assert json.loads((tmp_path / "gateway.json").read_text())["keys_directory"] == str(tmp_path / "keys")


def test_without_auth_no_key_is_asked_for(options, tmp_path):
    prepare(options, tmp_path)
    assert json.loads((tmp_path / "gateway.json").read_text())["keys_directory"] is None


@pytest.mark.parametrize(
    ("changed", "page"),
    [("spec:\n", True), ("spec:\n  gateway: {page: false}\n", False)],
    ids=["default", "switched off"],
)
def test_the_page_is_named_where_it_is_served(options, tmp_path, changed, page):
    file = with_spec(tmp_path, "spec:\n", changed)
    started = prepare(dataclasses.replace(options, file=file), tmp_path)
    gateway = GatewaySettings.model_validate_json((tmp_path / "gateway.json").read_text())
    assert gateway.page is page
    assert started.page_url == (f"http://127.0.0.1:{options.port}/" if page else "")


def test_a_model_that_makes_vectors_has_no_page(options, tmp_path):
    file = with_spec(tmp_path, "  model:\n", "  model:\n    task: Embedding\n")
    assert prepare(dataclasses.replace(options, file=file), tmp_path).page_url == ""


def test_a_model_that_makes_embeddings_can_not_be_asked(options, tmp_path):
    file = with_spec(tmp_path, "  gpu:", "    task: Embedding\n  gpu:")
    places = {"file": file, "claims": options.claims, "port": options.port, "admin_port": options.admin_port}
    with pytest.raises(Problem, match="run it without --ask"):
        prepare(RunOptions(**places, question="Why?"), tmp_path)
    assert prepare(RunOptions(**places), tmp_path).task == "Embedding"
    assert json.loads((tmp_path / "repository/llm/1/model.json").read_text())["task"] == "Embedding"

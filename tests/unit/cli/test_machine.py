"""Ports and GPUs of this machine."""

import socket

import pytest

from localmodel.cli.machine import HOST, check_gpus, check_port, count_gpus, find_free_port
from localmodel.cli.problems import Problem


def test_taken_port_names_the_option():
    with socket.create_server((HOST, 0)) as server, pytest.raises(Problem, match=r"is already taken.*--admin-port PORT"):
        check_port(server.getsockname()[1], "--admin-port")


def test_free_port_is_free():
    check_port(find_free_port(), "--port")


def test_more_gpus_than_there_are():
    check_gpus(0, 0)
    check_gpus(1, 2)
    with pytest.raises(Problem, match=r"write `gpu: \{count: 0\}`"):
        check_gpus(2, 1)


def test_gpus_are_counted_from_the_driver(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert count_gpus() == 0
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: 1)'\necho '  MIG 1g.10gb'\necho 'GPU 1: B (UUID: 2)'\n")
    driver.chmod(0o755)
    assert count_gpus() == 2
    driver.write_text("#!/bin/sh\necho 'GPU 0: no devices were found'\nexit 9\n")
    assert count_gpus() == 0

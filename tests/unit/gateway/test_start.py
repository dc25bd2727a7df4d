"""How the process behaves before it serves."""

import json
import os
import subprocess
import sys
from pathlib import Path


def test_a_sigterm_during_the_imports_is_obeyed(tmp_path: Path) -> None:
    """A stand-in for the first slow import sends it. Exit 0 means our handler: process 1 has no default one."""
    (tmp_path / "aiohttp.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(60)\n")
    settings = {
        "model_name": "m",
        "served_names": ["m"],
        "context_window": 16,
        "max_batch_size": 1,
        "triton_url": "http://127.0.0.1:1",
    }
    (tmp_path / "gateway.json").write_text(json.dumps(settings))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), *filter(None, sys.path)))}
    result = subprocess.run(
        [sys.executable, "-m", "localmodel.gateway", "--settings", str(tmp_path / "gateway.json")],
        env=environment,
        capture_output=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr

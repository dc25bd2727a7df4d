"""A gateway before the real Triton with the real model, or with its first layers, for benches that ask it for long.

It measures nothing but the memory of a process.
"""

import asyncio
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file, save_file

import weights
from gateway.conftest import ROOT, free_ports
from gateway.test_real_triton import RealTriton

_LAYER = re.compile(r"\.layers\.(\d+)\.")


def resident_mb(pid: int, kind: str = "VmRSS") -> float:
    """`RssAnon`: without pages of files, which the kernel takes back as it likes."""
    found = re.search(rf"{kind}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


class Standing(NamedTuple):
    """A gateway before the real Triton with the real model."""

    url: str
    admin: str
    gateway: int
    triton: RealTriton


def shorten(model: Path, layers: int, into: Path) -> Path:
    """The model's directory with its first layers only."""
    shutil.copytree(model, into, ignore=shutil.ignore_patterns("*.safetensors*"))
    config = json.loads((model / "config.json").read_text())
    (into / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}))
    tensors: dict[str, Any] = {}
    for file in model.glob("*.safetensors"):
        tensors |= load_file(file)
    kept = {name: each for name, each in tensors.items() if not (found := _LAYER.search(name)) or int(found[1]) < layers}
    save_file(kept, into / "model.safetensors", {"format": "pt"})
    return into


@asynccontextmanager
async def standing(layers: int = 0) -> AsyncIterator[Standing]:
    """`layers`: 0 for all of the model."""
    with tempfile.TemporaryDirectory() as name:
        model = weights.make(weights.default_destination())
        triton = RealTriton(Path(name), shorten(model, layers, Path(name) / "model") if layers else model)
        triton.start()
        serving, admin = free_ports(2)
        settings = {
            "model_name": "soak", "served_names": ["soak"], "context_window": 512, "serving_host": "127.0.0.1",
            "serving_port": serving, "admin_host": "127.0.0.1", "admin_port": admin, **triton.settings(),
        }  # fmt: skip
        file = Path(name) / "gateway.json"
        file.write_text(json.dumps(settings))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "localmodel.gateway", "--settings", str(file), stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT / "operator")},
        )  # fmt: skip
        try:
            yield Standing(f"http://127.0.0.1:{serving}", f"http://127.0.0.1:{admin}", process.pid, triton)
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()
            triton.kill()

"""The processes of `chain_cuda.py`: the real tritonserver with the engine, the gateway, and the raw engine beside them.

Triton is started with the pod's own command and configuration, from what `chain_pack` packed in the image's folders. Must not
measure anything.
"""

import asyncio
import json
import os
import signal
import sys
import sysconfig
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp

from gateway.conftest import ROOT, free_ports
from localmodel.core.triton import render_config_pbtxt, tritonserver_command, without_cards

PATIENCE = 300


class World:
    def __init__(self, pack: Path, directory: Path, session: aiohttp.ClientSession) -> None:
        self.directory = directory
        self.token = directory / "token"
        self._pack = pack
        self._session = session
        self._processes: list[asyncio.subprocess.Process] = []
        """Triton and gateway."""
        self._command: list[str] = []
        self._kernels = ""
        """Folder of compiled kernels: one for each kind of weights, so that the first start has none."""
        self.port = self.triton_port = self._admin = 0

    async def start(self, engine: dict[str, Any], shim: str = "", kernels: str = "") -> float:
        """Triton and gateway, as a pod starts them; returns when (monotonic). `shim`: code behind model.py; `kernels`: name of a
        folder of compiled ones."""
        self.port, self._admin, self.triton_port = free_ports(3)
        repository = self.directory / f"repository-{self.port}"
        self._kernels = kernels or engine.get("quantization", "None")
        version = repository / "llm" / "1"
        version.mkdir(parents=True)
        (version.parent / "config.pbtxt").write_text(render_config_pbtxt())
        (version / "model.py").write_text((ROOT / "model_repo" / "llm" / "1" / "model.py").read_text() + shim)
        (version / "model.json").write_text(json.dumps({**engine, "channel_token_file": str(self.token)}))
        settings = {
            "model_name": "chain", "served_names": ["chain"], "context_window": engine["context_window"],
            "max_batch_size": engine["max_batch_size"], "model_path": engine["model_path"], "serving_host": "127.0.0.1",
            "serving_port": self.port, "admin_host": "127.0.0.1", "admin_port": self._admin,
            "triton_url": f"http://127.0.0.1:{self.triton_port}", "channel_token_file": str(self.token),
            "concurrency": {"queue": 256},
        }  # fmt: skip
        file = self.directory / f"gateway-{self.port}.json"
        file.write_text(json.dumps(settings))
        triton = self._pack / "triton"
        self._command = tritonserver_command(
            program=str(triton / "bin" / "tritonserver"), repository=str(repository), backends=str(triton / "backends"),
            host="127.0.0.1", port=self.triton_port, gpus=engine.get("gpu_count", 1),
        )  # fmt: skip
        began = monotonic()
        self._processes = [
            await self._launch("triton", self._command, **self._stub_environment()),
            await self._launch("gateway", [sys.executable, "-m", "localmodel.gateway", "--settings", str(file)]),
        ]
        return began

    async def restart_triton(self) -> None:
        await _kill(self._processes[0])
        self._processes[0] = await self._launch("triton", self._command, **self._stub_environment())

    def _stub_environment(self) -> dict[str, str]:
        """Its Python finds its own library by PATH, and torch where this Python has it; both ignore PYTHONPATH."""
        here = [
            str(ROOT / "operator"),
            str(self._pack / "packages"),
            sysconfig.get_path("purelib"),
            sysconfig.get_path("platlib"),
        ]
        here += [entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages")) or "torch" in entry]
        libraries = [str(self._pack / "triton" / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]
        return {
            **without_cards(),
            "PATH": os.pathsep.join([str(self._pack / "python" / "bin"), os.environ["PATH"]]),
            "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
            "TRITON_CACHE_DIR": str(self.directory / "kernels" / self._kernels),
            "LOCALMODEL_PYTHONPATH": os.pathsep.join(dict.fromkeys(here)),
        }

    async def _launch(self, name: str, command: list[str], **environment: str) -> asyncio.subprocess.Process:
        with (self.directory / f"{name}.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *command, stdout=log, stderr=log, env={**os.environ, **environment}, start_new_session=True
            )

    @property
    def triton_pid(self) -> int:
        return self._processes[0].pid

    @property
    def gateway_pid(self) -> int:
        return self._processes[1].pid

    async def status(self) -> dict[str, Any]:
        async with self._session.get(f"http://127.0.0.1:{self._admin}/status") as reply:
            return dict(await reply.json())

    async def engine(self) -> dict[str, Any]:
        return (await self.status())["backend"]["engine"] or {}

    async def alive(self) -> bool:
        """What the kubelet asks of Triton's container."""
        async with self._session.get(f"http://127.0.0.1:{self._admin}/livez/backend") as reply:
            return reply.status == 200

    async def wait(self, condition: Any, what: str, seconds: float = PATIENCE) -> float:
        """Until `condition`, a coroutine function, is true; how many seconds it took."""
        began = monotonic()
        while monotonic() - began < seconds:
            try:
                if await condition():
                    return monotonic() - began
            except (aiohttp.ClientError, OSError):
                pass
            await asyncio.sleep(0.02)
        raise SystemExit(f"waited in vain: {what}\n{self.logs()}")

    async def ready(self) -> bool:
        if any(process.returncode is not None for process in self._processes):
            raise SystemExit(f"a process has ended\n{self.logs()}")
        return bool((await self.status())["ready"])

    def logs(self, size: int = 4000) -> str:
        names = [name for name in ("triton", "gateway", "raw") if (self.directory / f"{name}.log").exists()]
        return "\n".join(f"--- {name}\n{(self.directory / f'{name}.log').read_text(errors='replace')[-size:]}" for name in names)

    async def stop(self) -> None:
        for process in self._processes:
            await _kill(process)
        self._processes.clear()


async def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


class RawEngine:
    """`chain_raw` on the other end of two pipes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._process: asyncio.subprocess.Process | None = None

    async def ask(self, verb: str, **fields: Any) -> dict[str, Any]:
        if self._process is None:
            with (self._world.directory / "raw.log").open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "bench.chain_raw", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                    stderr=log, limit=2**24, start_new_session=True,
                )  # fmt: skip
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": verb, **fields}).encode() + b"\n")
        answer = await self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"the raw engine has ended\n{self._world.logs()}")
        return dict(json.loads(answer))

    async def end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

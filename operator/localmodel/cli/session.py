"""One run of Triton and the gateway: started, watched until the model is ready and after, and ended in the right order."""

import asyncio
import contextlib
import signal
import sys
import time

from localmodel.api.gateway import GatewayStatus
from localmodel.cli.ask import ask
from localmodel.cli.launch import Launch
from localmodel.cli.problems import RunFailed
from localmodel.cli.progress import Progress, fetch_status
from localmodel.cli.ready import describe_embedding_ready, describe_predict_ready, describe_ready, explain_failure
from localmodel.cli.supervisor import Supervised

POLL_SECONDS = 0.25
ENDS_BEFORE_GIVING_UP = 3
"""A child that ends this often before the model was ever ready will not get better by itself."""
GRACE_SECONDS = 15.0
HUNG_SECONDS = 15.0
"""An engine that is silent for longer is ended, as the kubelet does in a cluster."""
INTERRUPTED = 130


def tell(line: str) -> None:
    print(line, flush=True)


class Session:
    """The two children and what is known of the model. With a question: asks it once the model is ready, then ends."""

    def __init__(self, launch: Launch, question: str | None) -> None:
        self._launch, self._question = launch, question
        self._triton = Supervised("Triton", launch.triton_argv, launch.triton_env, launch.logs / "triton.log", tell)
        self._gateway = Supervised("Gateway", launch.gateway_argv, launch.gateway_env, launch.logs / "gateway.log", tell)
        self._progress = Progress()
        self._stop = asyncio.Event()
        self._interrupts = 0
        self._ended_hung = False

    async def run(self) -> int:
        """The exit code. Raises RunFailed if the model can't be served."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        tell(f"Starting {self._launch.model_name}; logs are in {self._launch.logs}")
        children = [asyncio.create_task(child.run()) for child in (self._triton, self._gateway)]
        try:
            await self._watch(children)
        finally:
            await self._end()
            await asyncio.gather(*children, return_exceptions=True)
        return INTERRUPTED if self._interrupts > 1 else 0

    async def _watch(self, children: list[asyncio.Task[None]]) -> None:
        began, asking = time.monotonic(), None
        while not self._stop.is_set():
            status = await asyncio.to_thread(fetch_status, self._launch.admin_url)
            first = not self._progress.was_ready
            for line in self._progress.see(status, time.monotonic() - began):
                tell(line)
            self._raise_if_hopeless(children)
            self._end_if_hung(status)
            if first and self._progress.ready:
                tell(f"Ready: {self._launch.base_url}   (after {time.monotonic() - began:.0f} s)")
                if self._question:
                    asking = asyncio.create_task(self._ask(self._question))
                else:
                    tell(self._describe_ready(status))
            if asking and asking.done():
                await asking
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), POLL_SECONDS)

    def _describe_ready(self, status: GatewayStatus | None) -> str:
        launch = self._launch
        if launch.task == "Predict":
            signature = (status.backend.engine or {}).get("signature", "") if status else ""
            return describe_predict_ready(
                launch.base_url, launch.admin_url, launch.served_name, str(signature), keyed=launch.keyed
            )
        if launch.task == "Embedding":
            return describe_embedding_ready(launch.base_url, launch.admin_url, launch.served_name, keyed=launch.keyed)
        return describe_ready(launch.base_url, launch.admin_url, launch.served_name, launch.page_url, keyed=launch.keyed)

    async def _ask(self, question: str) -> None:
        tell(f"> {question}")
        await asyncio.to_thread(ask, self._launch.base_url, self._launch.served_name, question, _write)
        tell("")

    def _raise_if_hopeless(self, children: list[asyncio.Task[None]]) -> None:
        if self._progress.failure is not None:
            raise RunFailed(explain_failure(self._progress.failure))
        for task in children:
            if task.done():
                raise RunFailed(f"A process can't be started: {task.exception()}")
        for child in (self._triton, self._gateway):
            if not self._progress.was_ready and child.quick_ends >= ENDS_BEFORE_GIVING_UP:
                raise RunFailed(f"{child.name} ends each time it is started. Its last words:\n{child.read_log_tail()}")

    def _end_if_hung(self, status: GatewayStatus | None) -> None:
        """Once per hang: the gateway may go on saying Hung until the next Triton answers."""
        if status is None or status.backend.state != "Hung":
            self._ended_hung = False
        elif status.backend.since_seconds >= HUNG_SECONDS and not self._ended_hung:
            self._ended_hung = True
            tell(f"The engine has not answered for {status.backend.since_seconds:.0f} s; ending Triton")
            self._triton.restart()

    async def _end(self) -> None:
        """The gateway first: it finishes the answers that are running while Triton still lives."""
        draining = self._progress.ready
        tell("Stopping: running answers finish first; Ctrl-C again ends them" if draining else "Stopping")
        await self._gateway.stop(self._launch.drain_seconds if draining else GRACE_SECONDS)
        await self._triton.stop(GRACE_SECONDS)
        tell("Stopped")

    def _on_signal(self) -> None:
        self._interrupts += 1
        self._stop.set()
        if self._interrupts > 1:
            self._gateway.kill()
            self._triton.kill()


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()

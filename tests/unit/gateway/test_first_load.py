"""The load that is asked for before the gateway's own modules are imported: once, and only of a model that is not there."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import aiohttp
import pytest

from gateway.conftest import eventually
from localmodel.gateway.backend_errors import BackendError, BackendUnreachable
from localmodel.gateway.first_load import Answer, FirstLoad
from localmodel.gateway.triton import Triton
from ports import free_ports

LOAD = "/v2/repository/models/llm/load"


class Site:
    """Answers as Triton does while it holds no model."""

    def __init__(self, port: int = 0) -> None:
        self.statuses = {"/v2/health/live": 200, "/v2/models/llm/ready": 400, LOAD: 200}
        self.body = b""
        self.asked: list[str] = []
        self.may_load = threading.Event()
        self.may_load.set()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                if self.path == LOAD:
                    site.may_load.wait(30)
                if (status := site.statuses[self.path]) == 0:
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(site.body)))
                self.end_headers()
                self.wfile.write(site.body)

            do_POST = do_GET

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def serving(self) -> Iterator["Site"]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.005,))
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    with Site().serving() as site:
        yield site


async def begin(url: str) -> tuple[FirstLoad, Answer]:
    first = FirstLoad(url, "llm")
    first.begin()
    answer: Answer = await eventually(lambda: first._answer)
    return first, answer


async def test_what_was_asked_for_is_waited_for_and_not_asked_for_again(site: Site) -> None:
    site.may_load.clear()
    first, _ = await begin(site.url)
    async with aiohttp.ClientSession() as session:
        triton = Triton(session, site.url, "llm", first.take())
        assert not await triton.loaded()
        loading = asyncio.create_task(triton.load())
        await asyncio.sleep(0.02)
        assert not loading.done()
        site.may_load.set()
        await loading
        assert site.asked.count(LOAD) == 1
        await triton.load()
        assert site.asked.count(LOAD) == 2


async def test_a_triton_that_comes_later_is_asked_when_it_is_there() -> None:
    (port,) = free_ports(1)
    first = FirstLoad(f"http://127.0.0.1:{port}", "llm")
    first.begin()
    await asyncio.sleep(0.05)
    with Site(port).serving() as site:
        await eventually(lambda: LOAD in site.asked)
        answer = first.take()
        assert answer is not None and wait([answer], 10).done
        assert answer.result() == (200, b"")


async def test_a_model_that_is_loaded_is_not_asked_for(site: Site) -> None:
    site.statuses["/v2/models/llm/ready"] = 200
    first = FirstLoad(site.url, "llm")
    first._run()
    assert first.take() is None
    assert LOAD not in site.asked


async def test_nothing_is_asked_for_after_somebody_took_over(site: Site) -> None:
    first = FirstLoad(site.url, "llm")
    assert first.take() is None
    first._run()
    assert LOAD not in site.asked
    site.statuses["/v2/health/live"] = 503
    first._run()
    assert LOAD not in site.asked


async def test_a_failure_has_the_words_of_triton(site: Site) -> None:
    site.statuses[LOAD], site.body = 400, b'{"error": "[OutOfMemory] predicted 9 bytes"}'
    _, answer = await begin(site.url)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(BackendError, match="predicted 9 bytes"):
            await Triton(session, site.url, "llm", answer).load()


async def test_a_triton_that_goes_away_meanwhile_is_unreachable(site: Site) -> None:
    site.statuses[LOAD] = 0
    _, answer = await begin(site.url)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(BackendUnreachable):
            await Triton(session, site.url, "llm", answer).load()


async def test_who_gives_up_waiting_does_not_disturb_the_thread(site: Site) -> None:
    site.may_load.clear()
    first, answer = await begin(site.url)
    async with aiohttp.ClientSession() as session:
        loading = asyncio.create_task(Triton(session, site.url, "llm", first.take()).load())
        await asyncio.sleep(0.02)
        loading.cancel()
        await asyncio.wait({loading})
    site.may_load.set()
    assert answer.result(10) == (200, b"")

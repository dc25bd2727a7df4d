"""A real Chromium before a real gateway. It may talk to that gateway only, and a test fails on any error in its console."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.async_api import BrowserContext, ConsoleMessage, Page, Request, async_playwright, expect

from gateway.conftest import GatewayProcess, Start, start, tiny_model, triton
from page import chromium

__all__ = ["Start", "start", "tiny_model", "triton"]

_PATIENCE_MS = 90_000
expect.set_options(timeout=_PATIENCE_MS)


@dataclass
class Browser:
    """Opens pages of one gateway in one fresh profile."""

    context: BrowserContext
    origins: set[str] = field(default_factory=set)
    """Of the gateways that were opened."""
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()
    """Parts of error messages that the test provokes."""

    async def open(self, gateway: GatewayProcess, host: str = "127.0.0.1", *, models: bool = True) -> Page:
        """`models`: wait until they are listed."""
        origin = gateway.url.replace("127.0.0.1", host)
        self.origins.add(origin)
        page = await self.context.new_page()
        await page.goto(f"{origin}/")
        if models:
            await page.wait_for_selector("#model option", state="attached")
        return page

    def watch(self) -> None:
        self.context.set_default_timeout(_PATIENCE_MS)
        self.context.on("request", self._requested)
        self.context.on("console", self._said)
        self.context.on("weberror", lambda error: self.errors.append(str(error.error)))

    def _requested(self, request: Request) -> None:
        self.requests.append(request.url)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def check(self) -> None:
        places = {"/".join(url.split("/")[:3]) for url in self.requests if not url.startswith("blob:")}
        assert places <= self.origins, places
        assert [error for error in self.errors if not any(part in error for part in self.expected)] == []


@pytest.fixture(scope="session")
def chromium_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with chromium.running(tmp_path_factory.mktemp("chromium")) as address:
        yield address


OpenBrowser = Callable[..., Awaitable[Browser]]


@pytest.fixture
async def browse(chromium_address: str) -> AsyncIterator[OpenBrowser]:
    """Opens a profile; keywords are those of a context: viewport, locale, color_scheme, reduced_motion ..."""
    opened: list[Browser] = []
    async with async_playwright() as playwright:
        connection = await playwright.chromium.connect_over_cdp(chromium_address, timeout=_PATIENCE_MS)

        async def begin(**options: Any) -> Browser:
            defaults = {"viewport": {"width": 1200, "height": 800}, "locale": "en-GB"}
            browser = Browser(await connection.new_context(**{**defaults, **options}))
            browser.watch()
            opened.append(browser)
            return browser

        yield begin
        for browser in opened:
            await browser.context.close()
    for browser in opened:
        browser.check()

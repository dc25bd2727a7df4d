"""The page before the real model in the real tritonserver.

With PICTURES=folder it also saves pictures of what it saw; docs/images/chat.png is one of them.
"""

import os
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from gateway.conftest import Start, eventually
from gateway.test_real_triton import RealTriton, engine_is_idle, idle, is_ready, real
from page.conftest import OpenBrowser
from page.test_access import PHONE
from page.test_answers import answered, ask

__all__ = ["real"]

pytestmark = pytest.mark.timeout(900)

PATIENCE = 250


async def picture(page: Page, name: str) -> None:
    if folder := os.environ.get("PICTURES"):
        await page.mouse.move(0, 0)
        await page.screenshot(path=Path(folder) / f"{name}.png")


async def test_a_person_asks_the_real_model(start: Start, real: RealTriton, browse: OpenBrowser) -> None:
    gateway = await start(wait=False, **real.settings(), served_names=["smollm2-135m"])
    await eventually(lambda: is_ready(gateway), PATIENCE)
    page = await (await browse(viewport={"width": 1100, "height": 700})).open(gateway)
    await picture(page, "welcome")
    await page.click("#open-settings")
    await page.locator("#temperature").fill("0")
    await page.fill("#max-tokens", "150")
    await page.keyboard.press("Escape")
    await page.evaluate(
        """() => {
            window.seen = new Set();
            const note = () => window.seen.add(document.querySelector('article.last .body')?.textContent.length);
            new MutationObserver(note).observe(document.getElementById('messages'), { childList: true, subtree: true });
        }"""
    )
    await ask(page, "Name the capital of France.")
    assert "Paris" in await answered(page, PATIENCE)
    assert await page.evaluate("window.seen.size") >= 3, "it came in pieces"
    await expect(page.locator(".notes")).to_contain_text("tokens/s")
    await ask(page, "Name three ways to save water at home, as a numbered list.")
    await expect(page.locator("article.answer")).to_have_count(2)
    await answered(page, PATIENCE)
    await picture(page, "light")
    await page.click("#theme")
    await picture(page, "dark")

    await page.click("#open-settings")
    await page.fill("#max-tokens", "450")
    await page.keyboard.press("Escape")
    await page.click("#new")
    await ask(page, "Write a very long story about a dragon.")
    await eventually(lambda: page.locator("article.last .body").evaluate("(each) => each.textContent.length > 20"), PATIENCE)
    assert (await gateway.status())["slots_in_use"] == 1
    await page.keyboard.press("Escape")
    await answered(page, PATIENCE)
    await eventually(lambda: idle(gateway), PATIENCE)
    await eventually(lambda: engine_is_idle(gateway), PATIENCE)

    phone = await (await browse(**PHONE, device_scale_factor=2)).open(gateway)
    await picture(phone, "phone-welcome")
    await phone.fill("#question", "Name the capital of France.")
    await phone.tap("#send")
    await answered(phone, PATIENCE)
    await picture(phone, "phone")
    outcomes = await gateway.outcomes()
    assert set(outcomes) == {"ok", "client_closed"} and outcomes["client_closed"] == 1
    await gateway.balanced()

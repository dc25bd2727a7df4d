"""The page for everybody: by keyboard alone, by ear, in the dark, without motion, on a phone, in Chinese."""

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from gateway.conftest import Start, eventually
from gateway.fake_triton import FakeTriton, Plan
from page.conftest import OpenBrowser
from page.test_answers import CODE, answered, ask, pieces

AXE = (Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js").read_text
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True, "locale": "zh-CN"}
LONG = CODE + "\n| name | value |\n|---|--:|\n| **a** | `b` |\n\n1. one\n2. [two](https://a.example/)\n\n> quoted\n"


async def violations(page: Page) -> list[str]:
    """What axe-core finds against WCAG 2.0 to 2.2, A and AA."""
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    found = await page.evaluate("(tags) => axe.run(document, { runOnly: tags })", tags)
    return [f"{each['id']}: {node['html'][:200]}" for each in found["violations"] for node in each["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", ["desktop", "phone"])
async def test_the_accessibility_audit(start: Start, triton: FakeTriton, browse: OpenBrowser, scheme: str, device: str) -> None:
    browser = await browse(color_scheme=scheme, bypass_csp=True, reduced_motion="reduce", **(PHONE if device == "phone" else {}))
    browser.expected = ("400",)
    page = await browser.open(await start())
    await page.evaluate(AXE())
    assert await violations(page) == []
    triton.plan = Plan(texts=pieces(LONG))
    await ask(page, "Show me everything")
    await answered(page)
    await ask(page, "word " * 600)
    await expect(page.locator(".problem")).to_be_visible()
    assert await violations(page) == []
    await page.click("#open-settings")
    assert await violations(page) == []
    await page.click("#change-key")
    assert await violations(page) == []
    await page.click("#cancel-key")
    if device == "phone":
        await page.click("#open-side")
    await page.click("#delete-all")
    assert await violations(page) == []
    await page.click("#confirm .quiet")
    await page.evaluate("document.documentElement.removeAttribute('lang')")
    assert await violations(page) != [], "the audit can find something"


async def test_by_keyboard_alone(start: Start, triton: FakeTriton, browse: OpenBrowser) -> None:
    page = await (await browse()).open(await start())
    keys = page.keyboard
    await expect(page.locator("#question")).to_be_focused()
    await keys.type("First line")
    await keys.press("Shift+Enter")
    await keys.type("second")
    await expect(page.locator("#question")).to_have_value("First line\nsecond")
    await keys.press("Enter")
    assert await answered(page) == "The capital is Paris."
    await expect(page.locator("#question")).to_have_value("")
    await expect(page.locator("#question")).to_be_focused()
    await page.reload()
    await expect(page.locator("#question")).to_be_focused()
    order = []
    for _ in range(14):
        await keys.press("Tab")
        order.append(await page.evaluate("document.activeElement.id || document.activeElement.className || 'body'"))
    expected = [
        "skip", "new", "open", "icon remove", "export-all", "delete-all", "model", "export", "theme", "open-settings", "scroll",
        "quiet copy", "quiet again", "question",
    ]  # fmt: skip
    order = [each for each in order if each not in ("send", "body")]
    assert order == [each for each in expected if each in order] and len(order) >= 12
    await page.focus(".skip")
    await keys.press("Enter")
    await expect(page.locator("#question")).to_be_focused()
    await page.focus("#open-settings")
    await keys.press("Enter")
    await expect(page.locator("#system")).to_be_focused()
    await keys.press("Escape")
    await expect(page.locator("#settings")).not_to_be_visible()
    await expect(page.locator("#open-settings")).to_be_focused()
    await page.focus("#history .remove")
    await keys.press("Enter")
    await keys.press("Tab")
    await keys.press("Enter")
    await expect(page.locator("#history li")).to_have_count(0)


async def test_enter_that_ends_a_chinese_word_does_not_send(start: Start, triton: FakeTriton, browse: OpenBrowser) -> None:
    page = await (await browse()).open(await start())
    await page.fill("#question", "ni hao")
    composing = (
        "(field) => field.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', isComposing: true, cancelable: true }))"
    )
    assert await page.locator("#question").evaluate(composing) is True, "the input method keeps its key"
    await expect(page.locator("article")).to_have_count(0)
    await expect(page.locator("#question")).to_have_value("ni hao")
    await page.keyboard.press("Enter")
    await answered(page)


async def test_by_ear_sentences_not_tokens(start: Start, triton: FakeTriton, browse: OpenBrowser) -> None:
    page = await (await browse()).open(await start())
    triton.plan = Plan(texts=pieces("The **first** sentence. The second one! And `the` rest", 2))
    await page.evaluate(
        """() => {
            window.said = [];
            const note = (change) => change.addedNodes.forEach((node) => window.said.push(node.textContent));
            const watched = { childList: true, subtree: true, characterData: true };
            new MutationObserver((all) => all.forEach(note)).observe(document.getElementById('spoken'), watched);
        }"""
    )
    await ask(page, "Speak")
    await answered(page)
    said = await page.evaluate("window.said")
    assert said[0] == "The answer is being written." and said[-1] == "The answer is complete."
    assert " ".join(said[1:-1]) == "The first sentence. The second one! And the rest" and len(said) <= 5
    live = "document.querySelectorAll('[aria-live]:not([aria-live=off])').length"
    assert await page.evaluate(live) == 1, "the messages themselves are not announced"


async def test_dark_as_the_system_or_as_chosen(start: Start, triton: FakeTriton, browse: OpenBrowser) -> None:
    gateway = await start()
    page = await (await browse(color_scheme="dark")).open(gateway)
    light = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every((each) => Number(each) > 200)"

    async def becomes(theme: str) -> None:
        """The page hears of the system's choice in an event, which may come after the browser has said that it changed.

        Not by `wait_for_function`: where it has to wait, the page's policy refuses it.
        """
        await eventually(lambda: is_light(theme == "light"))

    async def is_light(wanted: bool) -> bool:
        return await page.evaluate(light) is wanted

    await becomes("dark")
    await page.emulate_media(color_scheme="light")
    await becomes("light")
    await page.click("#theme")
    await becomes("dark")
    await page.reload()
    await becomes("dark")
    await page.emulate_media(color_scheme="dark")
    await page.click("#open-settings")
    await page.select_option("#theme-setting", "light")
    await becomes("light")
    await page.select_option("#theme-setting", "")
    await becomes("dark")


async def test_motion_only_for_those_who_like_it(start: Start, triton: FakeTriton, browse: OpenBrowser) -> None:
    gateway = await start()
    triton.plan = Plan(texts=("So ", "on"), stall_after=1)
    for motion, moves in (("no-preference", True), ("reduce", False)):
        page = await (await browse(reduced_motion=motion)).open(gateway)
        await ask(page, "Go")
        await expect(page.locator(".answer .body")).to_have_text("So")
        assert (await page.evaluate("document.getAnimations().length") > 0) is moves
        await page.keyboard.press("Escape")


async def test_on_a_phone_in_chinese(start: Start, triton: FakeTriton, browse: OpenBrowser) -> None:
    page = await (await browse(**PHONE)).open(await start())
    wide = "document.documentElement.scrollWidth > innerWidth"
    assert await page.locator("html").get_attribute("lang") == "zh-Hans"
    await expect(page.locator(".lead")).to_have_text("您想了解什么？")
    await expect(page.locator("#new")).not_to_be_in_viewport()
    triton.plan = Plan(texts=pieces("```\n" + "x" * 300 + "\n```\n\n" + "y" * 300))
    await page.fill("#question", "很长")
    await page.tap("#send")
    await answered(page)
    assert await page.evaluate(wide) is False
    await page.tap("#open-side")
    await expect(page.locator("#new")).to_be_in_viewport()
    await expect(page.locator("#open-side")).to_have_attribute("aria-expanded", "true")
    await page.keyboard.press("Escape")
    await expect(page.locator("#new")).not_to_be_in_viewport()
    await page.tap("#open-side")
    await page.tap("#new")
    await expect(page.locator("#welcome")).to_be_visible()
    assert await page.evaluate(wide) is False
    await page.tap("#open-settings")
    await page.select_option("#language-setting", "en")
    await expect(page.locator(".lead")).to_have_text("What would you like to know?")

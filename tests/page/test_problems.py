"""When something goes wrong, the page says it in words and offers what to do. Every fault here comes from the real gateway."""

import re
from pathlib import Path

from playwright.async_api import Page, expect

from gateway.conftest import Start, eventually
from gateway.fake_triton import FakeTriton, Plan
from localmodel.api.keys import format_hash
from page.conftest import OpenBrowser
from page.test_answers import answered, ask

STALLED = Plan(texts=("On ", "and on"), stall_after=1)
KEY = "lm-the-key-of-a-person"


NOTE_THE_BUTTON = """() => {
    window.shown = [];
    const note = () => {
        const button = document.querySelector(".problem button");
        if (button) window.shown.push([button.textContent, button.getAttribute("aria-disabled")]);
    };
    new MutationObserver(note).observe(document.getElementById("messages"), { childList: true, subtree: true });
}"""
"""A countdown of a second may be over when it is looked for."""


async def problem(page: Page) -> str:
    """The words of the problem under the last answer."""
    await expect(page.locator("article.last .problem")).to_be_visible()
    return await page.locator("article.last .problem > p").inner_text()


async def test_a_busy_server_gives_a_countdown_and_another_try(start: Start, triton: FakeTriton, browse: OpenBrowser) -> None:
    gateway = await start(concurrency={"max": 1, "queue": 0})
    browser = await browse()
    browser.expected = ("503",)
    first, second = await browser.open(gateway), await browser.open(gateway)
    triton.plan = STALLED
    await ask(first, "Long?")
    await expect(first.locator(".answer .body")).to_have_text("On")
    await second.evaluate(NOTE_THE_BUTTON)
    await ask(second, "Me too?")
    assert "busy" in await problem(second)
    again = second.locator(".problem button")
    text, disabled = (await second.evaluate("window.shown"))[0]
    assert re.fullmatch(r"Try again in \d+ s", text) and disabled == "true"
    await expect(second.locator(".again")).not_to_be_visible()
    await first.keyboard.press("Escape")
    await gateway.idle()
    triton.plan = Plan()
    await expect(again).to_have_text("Try again")
    await again.click()
    assert await answered(second) == "The capital is Paris."
    await expect(second.locator("article.answer")).to_have_count(1)
    await expect(second.locator(".problem")).to_have_count(0)
    await second.reload()
    assert await answered(second) == "The capital is Paris."


async def test_a_key_is_asked_for_kept_for_the_tab_and_forgotten(
    start: Start, triton: FakeTriton, browse: OpenBrowser, tmp_path: Path
) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "person").write_text(format_hash(KEY))
    gateway = await start(keys_directory=str(tmp_path / "keys"))
    browser = await browse()
    browser.expected = ("401",)
    page = await browser.open(gateway, models=False)
    await expect(page.locator("#key-dialog")).to_be_visible()
    for wrong, words in (("with space", "without spaces"), ("lm-wrong", "does not accept")):
        await page.fill("#key", wrong)
        await page.keyboard.press("Enter")
        await expect(page.locator("#key-problem")).to_contain_text(words)
    await page.fill("#key", f" {KEY} ")
    await page.keyboard.press("Enter")
    await expect(page.locator("#model")).to_have_value("tiny")
    await expect(page.locator("#key-dialog")).not_to_be_visible()
    await ask(page, "Hi")
    assert await answered(page) == "The capital is Paris."
    stores = "[localStorage, sessionStorage].map((store) => JSON.stringify({ ...store }))"
    local, session = await page.evaluate(stores)
    assert KEY not in local and KEY in session
    await page.reload()
    await expect(page.locator("#model")).to_have_value("tiny")
    await page.click("#open-settings")
    await page.click("#change-key")
    await page.click("#forget-key")
    assert KEY not in "".join(await page.evaluate(stores))
    await ask(page, "Again")
    assert "key" in await problem(page)
    await page.fill("#key", KEY)
    await page.check("#remember-key")
    await page.keyboard.press("Enter")
    assert await answered(page) == "The capital is Paris."
    local, session = await page.evaluate(stores)
    assert KEY in local and KEY not in session


async def test_an_answer_that_breaks_keeps_what_came(start: Start, triton: FakeTriton, browse: OpenBrowser) -> None:
    gateway = await start()
    browser = await browse()
    page = await browser.open(gateway)
    triton.plan = Plan(texts=("Part", " of it"), error="out of memory", finish="error")
    await ask(page, "Why?")
    assert "failed on this question" in await problem(page)
    assert (await page.locator(".answer .body").inner_text()).strip() == "Part of it"
    await page.click(".problem summary")
    await expect(page.locator(".problem details p")).to_contain_text("req_")
    await page.reload()
    assert "failed on this question" in await problem(page)


async def test_the_server_goes_away(start: Start, triton: FakeTriton, browse: OpenBrowser) -> None:
    gateway = await start()
    browser = await browse()
    browser.expected = ("ERR_", "Failed to load resource")
    page = await browser.open(gateway)
    triton.plan = STALLED
    await ask(page, "Long?")
    await expect(page.locator(".answer .body")).to_have_text("On")
    gateway.process.kill()
    assert "connection" in await problem(page)
    await page.click(".problem button")
    assert "can't be reached" in await problem(page)


async def test_too_long_a_conversation_offers_a_new_one(start: Start, triton: FakeTriton, browse: OpenBrowser) -> None:
    browser = await browse()
    browser.expected = ("400",)
    page = await browser.open(await start())
    await ask(page, "word " * 600)
    assert "longer than this model can hold" in await problem(page)
    await page.click(".problem button")
    await expect(page.locator("#welcome")).to_be_visible()


async def test_what_is_above_a_limit_by_itself_leads_to_the_settings(
    start: Start, triton: FakeTriton, browse: OpenBrowser
) -> None:
    """Also after a reload, when what was said then is all that is known."""
    browser = await browse()
    browser.expected = ("429",)
    page = await browser.open(await start(limits=[{"key": "*", "tpm": 200}]))
    await ask(page, "Hi")
    for reload in (False, True):
        if reload:
            await page.reload()
        assert "allowed in a minute" in await problem(page)
        await expect(page.locator(".problem button")).to_have_text("Settings")
    await page.click(".problem button")
    await page.fill("#max-tokens", "50")
    await page.keyboard.press("Escape")
    await page.click("article.last .again")
    assert await answered(page) == "The capital is Paris."
    await expect(page.locator(".problem")).to_have_count(0)


async def test_a_model_that_is_not_ready_and_comes(start: Start, triton: FakeTriton, browse: OpenBrowser) -> None:
    triton.load_errors = ["no memory"] * 1000
    gateway = await start(wait=False)
    browser = await browse()
    browser.expected = ("503",)

    async def listening() -> bool:
        try:
            return await gateway.code("/livez") > 0
        except OSError:
            return False

    await eventually(listening, 90)
    page = await browser.open(gateway)
    await ask(page, "Hi")
    assert "can't answer right now" in await problem(page)
    triton.load_errors = []
    await eventually(lambda: triton.loaded, 90)
    await gateway.ready()
    await page.click(".problem button:not([aria-disabled=true])")
    assert await answered(page) == "The capital is Paris."

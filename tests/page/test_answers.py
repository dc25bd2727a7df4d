"""Asking on the page: answers grow, stop, survive a reload, can be copied; model output stays text."""

import json
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from gateway.conftest import Start, eventually
from gateway.fake_triton import FakeTriton, Plan
from page.chromium import PLAIN_HOST
from page.conftest import Browser, OpenBrowser

EVIL = "<img src=x onerror=\"document.title='owned'\"><script>alert(1)</script> **bold** [x](javascript:alert(1)) ![i](http://evil.test/i.png)"
CODE = "Run this:\n\n```sh\necho '<b>'\n```\n"


def pieces(text: str, size: int = 7) -> tuple[str, ...]:
    return tuple(text[at : at + size] for at in range(0, len(text), size))


async def ask(page: Page, question: str) -> None:
    await page.fill("#question", question)
    await page.keyboard.press("Enter")


async def answered(page: Page, seconds: float = 90) -> str:
    """The text of the last answer, once it is complete."""
    await expect(page.locator("article.answer.last .again")).to_be_visible(timeout=seconds * 1000)
    return await page.locator("article.answer.last .body").inner_text()


async def test_an_answer_grows_and_is_sent_with_its_history(start: Start, triton: FakeTriton, browse: OpenBrowser) -> None:
    gateway = await start(context_window=2000)
    page = await (await browse()).open(gateway)
    await page.evaluate(
        """() => {
            window.lengths = [];
            const note = () => window.lengths.push(document.querySelector('.answer .body')?.textContent.length ?? 0);
            const watched = { childList: true, subtree: true, characterData: true };
            new MutationObserver(note).observe(document.getElementById('messages'), watched);
        }"""
    )
    triton.plan = Plan(texts=tuple(f"word{n} " for n in range(30)), gap=0.1)
    await ask(page, "First?")
    assert (await answered(page)).split() == [f"word{n}" for n in range(30)]
    lengths = await page.evaluate("window.lengths")
    assert lengths == sorted(lengths) and len(set(lengths)) > 5
    notes = await page.locator(".answer .notes").inner_text()
    assert "30 tokens" in notes and "tokens/s" in notes
    await ask(page, "Second?")
    await expect(page.locator("article.answer")).to_have_count(2)
    await answered(page)
    await gateway.idle()
    first, second = triton.user_submits
    assert len(second["prompt"]) > len(first["prompt"]) + 30, "the history is part of the prompt"
    assert first["sampling"]["temperature"] == 0.7


async def test_settings_reach_the_engine(start: Start, triton: FakeTriton, browse: OpenBrowser) -> None:
    page = await (await browse()).open(await start())
    await page.click("#open-settings")
    await page.fill("#system", "Answer like a pirate.")
    await page.fill("#max-tokens", "9")
    await page.locator("#temperature").fill("1.3")
    await page.click("#settings .strong")
    await page.select_option("#model", "org/tiny")
    await ask(page, "Hi")
    await answered(page)
    with_system = triton.user_submits[-1]
    assert with_system["sampling"]["temperature"] == 1.3 and with_system["sampling"]["max_tokens"] == 9
    await page.reload()
    await expect(page.locator("#model")).to_have_value("org/tiny")
    await page.click("#open-settings")
    await expect(page.locator("#system")).to_have_value("Answer like a pirate.")
    await page.fill("#system", "")
    await page.keyboard.press("Escape")
    await page.click("article.last .again")
    await eventually(lambda: len(triton.user_submits) == 2)
    await answered(page)
    assert len(triton.user_submits[-1]["prompt"]) < len(with_system["prompt"])
    await expect(page.locator("article.answer")).to_have_count(1)


async def test_stop_frees_the_slot_and_keeps_the_text(start: Start, triton: FakeTriton, browse: OpenBrowser) -> None:
    gateway = await start()
    page = await (await browse()).open(gateway)
    triton.plan = Plan(texts=("Once ", "upon ", "a time"), stall_after=2)
    for stop in ("#send", "Escape"):
        await page.click("#new")
        await ask(page, "A story")
        await expect(page.locator(".answer .body")).to_have_text("Once upon")
        assert (await gateway.status())["slots_in_use"] == 1
        await expect(page.locator("#send")).to_have_attribute("aria-label", "Stop the answer")
        await (page.click(stop) if stop == "#send" else page.keyboard.press(stop))
        assert (await answered(page)).strip() == "Once upon"
        await expect(page.locator(".answer .remark")).to_have_text("Stopped.")
        await expect(page.locator("#send")).to_have_attribute("aria-label", "Send")
        await gateway.idle()
    assert len(triton.user_cancels) == 2
    assert (await gateway.outcomes())["client_closed"] == 2


async def test_leaving_the_page_keeps_what_came(start: Start, triton: FakeTriton, browse: OpenBrowser) -> None:
    gateway = await start()
    page = await (await browse()).open(gateway)
    triton.plan = Plan(texts=("Half ", "a"), stall_after=1)
    await ask(page, "Long?")
    await expect(page.locator(".answer .body")).to_have_text("Half")
    await page.reload()
    assert (await answered(page)).strip() == "Half"
    await expect(page.locator(".answer .remark")).to_have_text("Stopped.")
    await gateway.idle()


async def test_conversations_are_kept_opened_exported_and_deleted(
    start: Start, triton: FakeTriton, browse: OpenBrowser, tmp_path: Path
) -> None:
    page = await (await browse()).open(await start())
    for question in ("Red?", "Green?"):
        await page.click("#new")
        await ask(page, question)
        await answered(page)
    await page.reload()
    rows = page.locator("#history .open")
    await expect(rows).to_have_text(["Green?", "Red?"])
    await expect(page.locator(".question .body")).to_have_text("Green?")
    await rows.nth(1).click()
    await expect(page.locator(".question .body")).to_have_text("Red?")
    assert await answered(page) == "The capital is Paris."
    name, text = await saved(page, "#export", tmp_path)
    assert name == "Red.md" and "# Red?" in text and "The capital is Paris." in text
    name, text = await saved(page, "#export-all", tmp_path)
    kept = json.loads(text)["conversations"]
    assert name == "conversations.json" and [each["messages"][0]["content"] for each in kept] == ["Green?", "Red?"]
    await page.locator("#history .remove").nth(1).click()
    await page.click("#confirm .quiet")
    await expect(rows).to_have_count(2)
    await page.locator("#history .remove").nth(1).click()
    await page.click("#confirm .strong")
    await expect(rows).to_have_text(["Green?"])
    await expect(page.locator("#welcome")).to_be_visible()
    await page.click("#delete-all")
    await page.click("#confirm .strong")
    await expect(rows).to_have_count(0)
    assert await page.evaluate("Object.keys(localStorage).filter((key) => key.includes('conversation'))") == []


async def test_two_pages_of_one_conversation_lose_nothing(start: Start, triton: FakeTriton, browse: OpenBrowser) -> None:
    gateway, browser = await start(), await browse()
    one, two = await browser.open(gateway), await browser.open(gateway)
    await ask(one, "Red?")
    await answered(one)
    await two.locator("#history .open").click()
    await ask(two, "Green?")
    await expect(one.locator(".question .body")).to_have_text(["Red?", "Green?"])
    await expect(one.locator(".answer .body")).to_have_text(["The capital is Paris."] * 2)

    triton.plan = Plan(texts=("Half ", "a"), stall_after=1)
    await ask(one, "Blue?")
    await expect(one.locator(".answer .body").last).to_have_text("Half")
    await expect(two.locator(".question .body")).to_have_text(["Red?", "Green?", "Blue?"])
    triton.plan = Plan()
    await ask(two, "White?")
    await expect(two.locator(".answer .body").last).to_have_text("The capital is Paris.")
    await one.keyboard.press("Escape")
    rows = two.locator("#history .open")
    await expect(rows).to_have_count(2)
    await expect(two.locator(".question .body").last).to_have_text("White?")
    await one.reload()
    await expect(one.locator(".question .body")).to_have_text(["Red?", "Green?", "Blue?"])
    await expect(one.locator(".answer .body").last).to_have_text("Half")

    triton.plan = Plan(texts=("Half ", "a"), stall_after=1)
    await ask(two, "Black?")
    await expect(two.locator(".answer .body").last).to_have_text("Half")
    await one.click("#delete-all")
    await one.click("#confirm .strong")
    await expect(two.locator("#welcome")).to_be_visible()
    await expect(rows).to_have_count(0)
    assert await one.evaluate("Object.keys(localStorage).filter((key) => key.includes('conversation'))") == []
    await gateway.idle()


async def saved(page: Page, button: str, folder: Path) -> tuple[str, str]:
    async with page.expect_download() as waiting:
        await page.click(button)
    download = await waiting.value
    await download.save_as(folder / "file")
    return download.suggested_filename, (folder / "file").read_text()


async def test_what_a_model_writes_stays_text(start: Start, triton: FakeTriton, browse: OpenBrowser) -> None:
    """With the question written as evil as the answer."""
    browser = await browse()
    page = await browser.open(await start())
    page.on("dialog", lambda dialog: browser.errors.append(f"a dialog: {dialog.message}"))
    triton.plan = Plan(texts=pieces(EVIL))
    await ask(page, EVIL)
    shown = await answered(page)
    assert '<img src=x onerror="document.title=' in shown and "<script>alert(1)</script>" in shown
    assert await page.locator("article img, article script").count() == 0
    assert await page.locator("article strong").inner_text() == "bold"
    assert [await each.get_attribute("href") for each in await page.locator("article a").all()] == ["http://evil.test/i.png"]
    await page.reload()
    assert await answered(page) == shown
    assert await page.title() != "owned"
    write = "(() => { try { document.body.innerHTML = '<b>'; return 'written' } catch { return 'refused' } })()"
    assert await page.evaluate(write) == "refused", "the browser itself refuses HTML from texts"
    browser.expected = ("requires 'TrustedHTML'",)


async def test_copying_also_on_plain_http(start: Start, triton: FakeTriton, browse: OpenBrowser) -> None:
    gateway = await start(serving_host="0.0.0.0")
    browser = await browse(permissions=["clipboard-read", "clipboard-write"])
    triton.plan = Plan(texts=pieces(CODE))
    for host in ("127.0.0.1", PLAIN_HOST):
        page = await browser.open(gateway, host)
        assert await page.evaluate("isSecureContext") is (host == "127.0.0.1")
        await ask(page, "Code, please")
        await answered(page)
        for button, text in ((".code .copy", "echo '<b>'"), (".foot .copy", CODE)):
            await page.locator(button).evaluate(NOTE_ITS_TEXTS)
            await page.click(button)
            await eventually(lambda page=page: page.evaluate("window.shown.includes('Copied')"), 90)
            assert await pasted(page) == text
            await expect(page.locator(button)).not_to_have_text("Copied")


NOTE_ITS_TEXTS = """(button) => {
    window.shown = [];
    new MutationObserver(() => window.shown.push(button.textContent)).observe(button, { childList: true, subtree: true });
}"""
"""What is shown for a while may be over when it is looked for."""


async def pasted(page: Page) -> str:
    await page.fill("#question", "")
    await page.focus("#question")
    await page.keyboard.press("Control+V")
    return await page.locator("#question").input_value()


async def test_a_reader_who_scrolled_up_is_left_there(start: Start, triton: FakeTriton, browse: OpenBrowser) -> None:
    page = await (await browse(viewport={"width": 700, "height": 400})).open(await start())
    triton.plan = Plan(texts=tuple(f"line {n}\n\n" for n in range(60)), gap=0.03)
    await ask(page, "Lines?")
    scroll = page.locator("#scroll")
    await eventually(lambda: scroll.evaluate("(each) => each.scrollTop > 300"), 90)
    await scroll.evaluate("(each) => { each.scrollTop = 10; }")
    await answered(page)
    assert await scroll.evaluate("(each) => each.scrollTop") == 10


async def test_the_page_can_reach_nobody_but_its_server(start: Start, triton: FakeTriton, browse: OpenBrowser) -> None:
    gateway = await start()
    browser = await browse()
    browser.expected = ("Content Security Policy", "Refused", "ERR_BLOCKED")
    page = await browser.open(gateway)
    blocked = """(url) => new Promise((resolve) => {
        document.addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective), { once: true });
        fetch(url).then(() => resolve("reached"), () => {});
    })"""
    assert await page.evaluate(blocked, gateway.admin + "/livez") == "connect-src"
    browser.requests.clear()


def test_another_host_or_an_error_fails_a_test() -> None:
    for wrong in ({"requests": ["http://evil.test/x"]}, {"errors": ["boom"]}):
        with pytest.raises(AssertionError):
            Browser(None, **wrong).check()  # type: ignore[arg-type]

"""The page's pure modules, called one by one inside a real Chromium: no gateway, files straight from the package."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Route, sync_playwright

from gateway.conftest import ROOT

FILES = ROOT / "operator" / "localmodel" / "gateway" / "page"
SITE = "http://files.test"
Call = Callable[..., Any]


@pytest.fixture(scope="module")
def call(chromium_address: str) -> Iterator[Call]:
    """call("module.js", "expression over m and the arguments", **arguments)"""
    with sync_playwright() as playwright:
        context = playwright.chromium.connect_over_cdp(chromium_address).new_context()
        page = context.new_page()

        def serve(route: Route) -> None:
            name = route.request.url.removeprefix(f"{SITE}/")
            kind = "text/javascript" if name.endswith(".js") else "text/html"
            route.fulfill(body=(FILES / name).read_text() if name else "<!doctype html>", content_type=f"{kind}; charset=utf-8")

        page.route("**/*", serve)
        page.goto(f"{SITE}/")

        def run(module: str, expression: str, **arguments: Any) -> Any:
            names = ", ".join(arguments)
            body = f"async ({{ {names} }}) => {{ const m = await import('/{module}'); return {expression}; }}"
            return page.evaluate(body, arguments)

        yield run
        context.close()


def inline(nodes: list[dict[str, Any]]) -> str:
    """The tree on one line: s[bold] e[italic] c[code] d[struck] <address label> / for a line's end."""
    marks = {"strong": "s", "em": "e", "code": "c", "del": "d"}
    shown = ""
    for node in nodes:
        inner = node["text"] if "text" in node else inline(node.get("children", []))
        match node["type"]:
            case "text":
                shown += inner
            case "break":
                shown += "/"
            case "link":
                shown += f"<{node['href']} {inner}>"
            case kind:
                shown += f"{marks[kind]}[{inner}]"
    return shown


INLINE = {
    "plain": "plain",
    "**a** and *b*, __c__ _d_ ~~e~~": "s[a] and e[b], s[c] e[d] d[e]",
    "***both***": "s[both]",
    "**a *b* c**": "s[a e[b] c]",
    "2 * 3 * 4 and a*b": "2 * 3 * 4 and a*b",
    "snake_case_name and _x_": "snake_case_name and e[x]",
    "**open and `code": "**open and `code",
    "`a*b*` and ``x`y``": "c[a*b*] and c[x`y]",
    r"\*no\* \\ \q": r"*no* \ \q",
    "one\ntwo": "one/two",
    "[here](https://a.example/x?y=1)": "<https://a.example/x?y=1 here>",
    "[bad](javascript:alert(1)) [worse](data:text/html,x)": "[bad](javascript:alert(1)) [worse](data:text/html,x)",
    "see https://a.example/b. Or (http://c.example)": "see <https://a.example/b https://a.example/b>. Or (<http://c.example http://c.example>)",
    "见https://a.example/b。好": "见https://a.example/b。好",
    "见 https://a.example/b。好": "见 <https://a.example/b https://a.example/b>。好",
    "**中文**和*斜体*": "s[中文]和e[斜体]",
    "<img src=x onerror=alert(1)>": "<img src=x onerror=alert(1)>",
    "![x](https://a.example/i.png)": "!<https://a.example/i.png x>",
}


@pytest.mark.parametrize("text", INLINE)
def test_inline(call: Call, text: str) -> None:
    assert inline(call("inline.js", "m.parseInline(text)", text=text)) == INLINE[text]


def blocks(tree: list[dict[str, Any]]) -> list[Any]:
    shown: list[Any] = []
    for block in tree:
        match block["type"]:
            case "code":
                shown.append(("code", block["lang"], block["text"]))
            case "heading":
                shown.append((f"h{block['level']}", block["text"]))
            case "list":
                shown.append((f"ol{block['start']}" if block["ordered"] else "ul", *map(blocks, block["items"])))
            case "quote":
                shown.append(("quote", *blocks(block["blocks"])))
            case "table":
                shown.append(("table", block["align"], block["head"], *block["rows"]))
            case "rule":
                shown.append("rule")
            case _:
                shown.append(block["text"])
    return shown


BLOCKS: dict[str, list[Any]] = {
    "": [],
    "one\ntwo\n\nthree": ["one\ntwo", "three"],
    "# A #\n###   B\n#no": [("h1", "A"), ("h3", "B"), "#no"],
    "text\n---\nmore": ["text", "rule", "more"],
    "```python\nx = 1\n\n# no heading\n```\nafter": [("code", "python", "x = 1\n\n# no heading"), "after"],
    "~~~\n```\n~~~": [("code", "", "```")],
    "```\nnever closed": [("code", "", "never closed")],
    "- a\n- b\n  - c\n\n  more b\n- d": [("ul", ["a"], ["b", ("ul", ["c"]), "more b"], ["d"])],
    "3. a\n4. b\n\n5. c": [("ol3", ["a"], ["b"], ["c"])],
    "1. a\n   ```\n   code\n   ```\n2. b": [("ol1", ["a", ("code", "", "code")], ["b"])],
    "Intro:\n* a\n* b\nlazy": ["Intro:", ("ul", ["a"], ["b\nlazy"])],
    "2026. was a year": [("ol2026", ["was a year"])],
    "> a\n> - b": [("quote", "a", ("ul", ["b"]))],
    "| a | b |\n|:-:|--:|\n| 1 | `x\\|y` |\n| 2 |\nend": [
        ("table", ["center", "right"], ["a", "b"], ["1", "`x|y`"], ["2", ""]),
        "end",
    ],
    "a | b is no table\nnext": ["a | b is no table\nnext"],
    "a\r\nb": ["a\nb"],
}


@pytest.mark.parametrize("text", BLOCKS)
def test_blocks(call: Call, text: str) -> None:
    tree = call("markdown.js", "m.parseBlocks(text)", text=text)
    assert json.dumps(blocks(tree)) == json.dumps(BLOCKS[text])


RUBBISH = (
    "*a ", "**a ", "_a ", "`", "``a`", "[", "[a](", "> ", "- ", "#", "|", "| a |\n|-|\n", "\\", "http://a ", "~~~\n", "\n", "1. ",
)  # fmt: skip


@pytest.mark.parametrize("unit", RUBBISH)
def test_long_rubbish_comes_back(call: Call, unit: str) -> None:
    """Quadratic work on 200,000 characters would not come back within the test's time limit; lost text would show."""
    script = "m.parseBlocks(unit.repeat(200000 / unit.length)).flatMap((b) => b.text ? i.parseInline(b.text) : []).length"
    script = f"import('/inline.js').then((i) => {script})"
    assert call("markdown.js", f"await {script}", unit=unit) >= 0


def test_a_growing_answer_is_drawn_as_if_it_came_at_once(call: Call) -> None:
    text = "# T\n\nA **b** c\n\n1. x\n2. y\n   - z\n\n```js\nlet a;\nlet b;\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n> q\n\nend"
    script = """(() => {
        const whole = document.createElement('div'), grown = document.createElement('div');
        m.renderMarkdown(whole, text);
        for (let end = 1; end <= text.length; end += 1) m.renderMarkdown(grown, text.slice(0, end));
        return [whole.innerHTML === grown.innerHTML, whole.querySelectorAll('h3,strong,ol ul,pre code,td,blockquote').length];
    })()"""
    assert call("render.js", script, text=text) == [True, 7]


def test_events_cut_at_every_place(call: Call) -> None:
    text = ': keep-alive\n\ndata: {"a": "é"}\n\ndata: one\ndata: two\n\r\ndata:x\r\n\r\nevent: e\ndata: [DONE]\n\ndata: cut'
    script = """Array.from({ length: text.length + 1 }, (_, at) => {
        const reader = new m.EventReader();
        return JSON.stringify([...reader.feed(text.slice(0, at)), ...reader.feed(text.slice(at))]);
    }).filter((each, _, all) => each !== all[0]).concat([JSON.stringify(new m.EventReader().feed(text))])"""
    assert call("sse.js", script, text=text) == ['["{\\"a\\": \\"é\\"}","one\\ntwo","x","[DONE]"]']


def test_what_is_said_aloud(call: Call) -> None:
    ends = {"Hello": 0, "Hello. ": 6, "It is 3.5 now": 0, "Yes! No": 4, "好。再": 2, "a\nb": 2}
    for text, end in ends.items():
        assert call("announcer.js", "m.finishedUntil(text)", text=text) == end, text
    assert call("announcer.js", "m.spoken(text)", text="## **Bold**\n- `x` [l](https://a.example)") == "Bold x l"


def test_both_languages_have_all_words(call: Call) -> None:
    english, chinese = (call(f"words-{tag}.js", "m.WORDS") for tag in ("en", "zh"))
    assert english.keys() == chinese.keys()
    for name, words in english.items():
        assert set(re.findall(r"\{\w+\}", words)) == set(re.findall(r"\{\w+\}", chinese[name])), name
    named = set(re.findall(r'data-t(?:-label|-hint)?="(\w+)"', (FILES / "index.html").read_text()))
    for file in FILES.glob("*.js"):
        named |= set(re.findall(r'\b(?:t|setLabel)\((?:\w+, )?"(\w+)"', file.read_text()))
    assert named <= english.keys() and len(named) > 60


CODES = (
    "network", "cut", "unreadable", "invalid_api_key", "model_not_allowed", "model_not_found", "context_length_exceeded",
    "request_too_large", "rate_limit_exceeded", "key_concurrency_exceeded", "server_is_overloaded", "circuit_open", "draining",
    "model_not_ready", "queue_timeout", "first_token_timeout", "idle_timeout", "total_timeout", "upstream_error",
    "upstream_protocol_error", "internal_error",
)  # fmt: skip


def test_every_problem_has_words_of_its_own(call: Call) -> None:
    script = "import('/api.js').then((a) => m.explain(new a.Problem(code, { status, message: 'why', requestId: 'req_1' })))"
    said = {code: call("problems.js", f"await {script}", code=code, status=503) for code in CODES}
    general = call("problems.js", f"await {script}", code="something_new", status=500)["words"]
    assert all(each["words"] != general for each in said.values())
    assert {code: each["offer"] for code, each in said.items() if each["offer"] != "retry"} == {
        "invalid_api_key": "key", "context_length_exceeded": "new", "model_not_allowed": "", "model_not_found": "models",
    }  # fmt: skip
    assert said["draining"]["details"] == "why Request req_1." and said["draining"]["wait"] > 0
    refused = call("problems.js", f"await {script}", code="unsupported_parameter", status=400)
    assert refused["offer"] == "" and "details" in refused["words"]


def test_what_can_never_pass_is_not_offered_again(call: Call) -> None:
    """OpenAI's status and code for it are those of a limit that waiting helps with; only a header tells."""
    script = """(() => {
        const body = JSON.stringify({ error: { code: 'rate_limit_exceeded', message: 'Shorten it.' } });
        window.fetch = async () => new Response(body, { status: 429, headers });
        return import('/api.js').then((a) => a.listModels('')).catch(m.explain);
    })()"""
    never = call("problems.js", f"await {script}", headers={"x-should-retry": "false"})
    assert never["offer"] == "settings" and "settings" in never["words"] and never["details"] == "Shorten it."
    for headers in ({"x-should-retry": "true", "retry-after": "7"}, {"retry-after": "7"}):
        later = call("problems.js", f"await {script}", headers=headers)
        assert (later["offer"], later["wait"]) == ("retry", 7) and later["words"] != never["words"]


def test_a_prompt_leaves_unanswered_questions_out(call: Call) -> None:
    turns = [("user", "a"), ("assistant", "b"), ("user", "lost"), ("assistant", ""), ("user", "c")]
    messages = [{"role": role, "content": content, "extra": 1} for role, content in turns]
    sent = call("conversations.js", "m.promptOf({ messages }, ' Be brief. ')", messages=messages)
    assert [(each["role"], each["content"]) for each in sent] == [("system", "Be brief."), turns[0], turns[1], turns[4]]
    assert {key for each in sent for key in each} == {"role", "content"}
    assert call("conversations.js", "m.promptOf({ messages }, ' ')", messages=messages[:1]) == [{"role": "user", "content": "a"}]


def test_what_another_page_wrote_is_not_overwritten(call: Call) -> None:
    script = """(() => {
        const kept = new Map();
        const storage = { read: (key) => structuredClone(kept.get(key) ?? null), keys: () => [...kept.keys()],
                          write: (key, value) => kept.set(key, structuredClone(value)) };
        const both = new m.Conversations(storage);
        const mine = m.newConversation();
        mine.messages.push({ role: 'user', content: 'a' });
        both.save(mine);
        both.save(mine);
        const theirs = both.get(mine.id);
        theirs.messages.push({ role: 'user', content: 'theirs' });
        both.save(theirs);
        mine.messages.push({ role: 'user', content: 'mine' });
        both.save(mine);
        both.save(mine);
        return both.all().map((each) => each.messages.map(({ content }) => content).join(' ')).sort();
    })()"""
    assert call("conversations.js", script) == ["a mine", "a theirs"]


def test_rubbish_in_the_store_is_not_believed(call: Call) -> None:
    script = """(() => {
        const read = () => ({ model: 3, system: 'x', temperature: 9, maxTokens: -1, theme: 'pink', language: 'zh', evil: 1 });
        return new m.Settings({ read }, { read: () => null }).values;
    })()"""
    assert call("settings.js", script) == {
        "model": "", "system": "x", "temperature": 0.7, "maxTokens": 0, "theme": "", "language": "zh",
    }  # fmt: skip
    script = """(() => {
        const evil = { id: 'a', updated: 1, messages: [{ role: 'root', content: '' }] };
        const rubbish = ['{', '1', '{"id": 1}', JSON.stringify(evil)];
        rubbish.forEach((each, at) => localStorage.setItem(`localmodel.conversation.${at}`, each));
        localStorage.setItem('localmodel.conversation.x', JSON.stringify({ id: 'x', updated: 1, messages: [] }));
        return import('/storage.js')
            .then((s) => new m.Conversations(new s.SafeStorage('localStorage')).all().map((each) => each.id));
    })()"""
    assert call("conversations.js", f"await {script}") == ["x"]


def test_a_full_store_keeps_things_until_the_page_closes_and_says_so(call: Call) -> None:
    script = """(() => {
        let troubles = 0;
        const store = new m.SafeStorage('localStorage', () => { troubles += 1; });
        store.write('small', 1);
        store.write('huge', 'x'.repeat(20_000_000));
        return [troubles, store.read('huge').length, store.read('small'), store.keys().includes('huge')];
    })()"""
    assert call("storage.js", script) == [1, 20_000_000, 1, True]
    assert call("storage.js", "new m.SafeStorage('noSuchStore').read('x')") is None


def test_files_have_names_that_every_system_takes(call: Call) -> None:
    names = {"What is 1/2?": "What-is-1-2.md", "../..": "conversation.md", "你好：世界": "你好-世界.md", "": "conversation.md"}
    for title, name in names.items():
        assert call("export.js", "m.fileName(title, 'md')", title=title) == name


def test_modules_are_short_and_set_no_html() -> None:
    for file in FILES.iterdir():
        text = file.read_text()
        assert len(text.splitlines()) < 200, file.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text), file.name
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", re.sub(r"https\?:.*", "", text)), file.name
    html = (FILES / "index.html").read_text()
    assert not re.search(r"\son\w+=|\sstyle=|<style|<script(?! src)", html)

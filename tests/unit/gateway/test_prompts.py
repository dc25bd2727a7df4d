"""Prompts as the model's authors meant them: equal to transformers on a real model, and every place a template can lie in."""

import asyncio
import dataclasses
import json
import shutil
import threading
from pathlib import Path
from time import monotonic

import pytest

import weights
from gateway.tiny_model import write_tiny_model
from localmodel.api.channel import Sampling
from localmodel.gateway import errors
from localmodel.gateway.chat_template import ChatTemplate, find_template
from localmodel.gateway.openai_request import Call, parse_call
from localmodel.gateway.prompts import load_prompts
from localmodel.gateway.timers import Limit
from unreadable import as_another_user, open_directory

CONVERSATIONS = [
    [{"role": "user", "content": "What is the capital of France?"}],
    [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi <|im_end {{ x }} {% y %}"}],
    [
        {"role": "user", "content": "日本 😀\n\n  spaces  "},
        {"role": "assistant", "content": "Zoë"},
        {"role": "user", "content": ""},
    ],
]


def chat(messages: list[dict[str, str]]) -> Call:
    return Call("chat", "m", messages, (), Sampling(), "max_tokens", False, False)


def text(prompt: str) -> Call:
    return Call("completions", "m", [], prompt, Sampling(), "max_tokens", False, False)


@pytest.mark.triton
def test_equal_to_transformers_on_a_real_model() -> None:
    from transformers import AutoTokenizer

    real = weights.make(weights.default_destination())
    theirs = AutoTokenizer.from_pretrained(real)
    ours = load_prompts(str(real))
    assert ours.problem is None
    for messages in CONVERSATIONS:
        rendered = theirs.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        expected = theirs(rendered, add_special_tokens=False)["input_ids"]
        assert list(ours.encode(chat(messages))) == expected
    for prompt in ("The capital of France is", " 日本", "<|im_start|>"):
        assert list(ours.encode(text(prompt))) == theirs(prompt)["input_ids"]


FEATURES = [
    "{{ messages | tojson }}",
    "{{ messages | tojson(indent=2) }}",
    "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m['content'] }}{% endfor %}",
    "{%- set ns = namespace(n=0) %}\n  {%- for m in messages %}\n{% set ns.n = ns.n + 1 %}\n{% endfor %}\n{{ ns.n }}\n",
    "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "{{ bos_token }}{{ eos_token }}{{ tools is none }}{{ missing is defined }}",
    "{{ strftime_now('%Y') }}",
]


@pytest.mark.parametrize("template", FEATURES)
def test_template_features_equal_transformers(template: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    for messages in CONVERSATIONS:
        theirs, _ = render_jinja_template(
            [messages], chat_template=template, add_generation_prompt=True, bos_token="<s>", eos_token="</s>"
        )
        assert ChatTemplate(template, {"bos_token": "<s>", "eos_token": "</s>"}).render(messages) == theirs[0]


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception('no') }}",
        "{{ 1 / 0 }}",
        "{{ messages[5].content.x }}",
        "{{ messages + 1 }}",
    ],
)
def test_a_template_can_only_refuse(template: str) -> None:
    with pytest.raises(errors.ApiError) as caught:
        ChatTemplate(template, {}).render(CONVERSATIONS[0])
    assert (caught.value.status, caught.value.param) == (400, "messages")


HERMES = (
    '{% if tools %}Call as <tool_call>{"name": n, "arguments": a}</tool_call>: {{ tools | tojson }}{% endif %}'
    "{% for m in messages %}{{ m.role }}: {% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>"
    "{% endfor %}{{ m.content }} {% endfor %}"
)
LLAMA = '{% if tools %}Respond in the format {"name": function name, "parameters": dictionary of ...}: {{ tools }}{% endif %}'
TOOL = {"type": "function", "function": {"name": "f", "description": "", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize(
    ("template", "form"),
    [
        (HERMES, "Hermes"),
        (LLAMA, "Llama"),
        ("{{ messages }}", None),
        ("{{ tools }}", None),
        ("{% if tools %}{{ raise_exception('no tools') }}{% endif %}", None),
        ('{% if tools %}<tool_call><function=x "arguments">{{ tools }}{% endif %}', None),
        ('Say <tool_call>{"arguments"} {{ messages }}', None),
    ],
)
def test_whether_a_template_knows_tools(template: str, form: str | None) -> None:
    assert ChatTemplate(template, {}).tool_format == form


def test_a_template_of_its_own_for_tools(tmp_path: Path) -> None:
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": HERMES}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    template = find_template(tmp_path)
    assert template is not None and template.tool_format == "Hermes"
    assert template.render(CONVERSATIONS[0]) == "plain" and TOOL["function"]["name"] in template.render(CONVERSATIONS[0], [TOOL])


def test_tools_reach_the_prompt_or_are_refused(tmp_path: Path) -> None:
    write_tiny_model(tmp_path)
    call = parse_call(
        "chat",
        {
            "messages": [
                {"role": "user", "content": "What"},
                {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": '{"x": "é"}'}}]},
                {"role": "tool", "tool_call_id": "1", "content": "two"},
            ],
            "tools": [TOOL],
            "tool_choice": "required",
        },
        ("m",),
        100,
    )
    assert call.tools is not None
    text = ChatTemplate(HERMES, {}).render(call.messages, call.tools.shown)
    assert '<tool_call>{"name": "f", "arguments": {"x": "é"}}</tool_call>' in text and "tool: two" in text
    with pytest.raises(errors.ApiError, match="chat template") as caught:
        load_prompts(str(tmp_path)).encode(call)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "tools")
    with pytest.raises(errors.ApiError) as caught:
        load_prompts(str(tmp_path)).encode(dataclasses.replace(call, tools=None))
    assert caught.value.param == "messages[1].tool_calls"
    (tmp_path / "chat_template.jinja").write_text(HERMES)
    prompts = load_prompts(str(tmp_path))
    free = dataclasses.replace(call, tools=dataclasses.replace(call.tools, forced=()))
    assert len(prompts.encode(call)) > len(prompts.encode(free)), "a forced call is begun for the model"


def test_where_templates_are_found(tmp_path: Path) -> None:
    config: dict[str, object] = {"bos_token": {"content": "<s>"}, "eos_token": "</s>", "chat_template": "config {{ bos_token }}"}

    def rendered() -> str | None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        template = find_template(tmp_path)
        return template and template.render(CONVERSATIONS[0])

    assert rendered() == "config <s>"
    config["chat_template"] = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "default {{ eos_token }}"}]
    assert rendered() == "default </s>"
    (tmp_path / "chat_template.json").write_text('{"chat_template": "json"}')
    assert rendered() == "json"
    (tmp_path / "chat_template.jinja").write_text("jinja")
    assert rendered() == "jinja"


def test_completions_have_what_the_post_processor_adds(tmp_path: Path) -> None:
    prompts = load_prompts(str(write_tiny_model(tmp_path)))
    assert prompts.encode(text("What is")) == (1, 5, 6)
    assert prompts.encode(chat([{"role": "user", "content": "What"}])) == (1, 3, 5, 4)


async def test_long_prompts_go_to_a_thread_and_come_back_equal(tmp_path: Path) -> None:
    prompts = load_prompts(str(write_tiny_model(tmp_path)))
    long = text("What is " * 5000)
    assert await prompts.encode_async(long) == prompts.encode(long)


def test_a_bad_directory_is_told_not_raised(tmp_path: Path) -> None:
    def reason() -> str | None:
        problem = load_prompts(str(tmp_path)).problem
        return problem and problem[0]

    assert reason() == "TokenizerMissing"
    (tmp_path / "tokenizer.json").write_text("{")
    assert reason() == "TokenizerMissing"
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    write_tiny_model(tmp_path)
    assert reason() is None and load_prompts(str(tmp_path)).chat_problem == ""


def test_a_directory_that_only_others_may_enter_is_told_not_raised() -> None:
    """A gateway that ends hides what the engine has to say of the same files."""
    with open_directory() as path:
        write_tiny_model(path)
        path.chmod(0)
        with as_another_user():
            problem = load_prompts(str(path)).problem
        path.chmod(0o700)
    assert problem is not None and problem[0] == "TokenizerMissing" and "Permission denied" in problem[1]


def test_without_a_chat_template_completions_go_on(tmp_path: Path) -> None:
    write_tiny_model(tmp_path)
    for broken in ("{}", '{"chat_template": "{% if"}', '{"chat_template": [1]}', "[]", "{"):
        (tmp_path / "tokenizer_config.json").write_text(broken)
        prompts = load_prompts(str(tmp_path))
        assert prompts.problem is None and "chat template" in prompts.chat_problem, broken
        assert prompts.encode(text("What is")) == (1, 5, 6)
        with pytest.raises(errors.ApiError, match="no usable chat template"):
            prompts.encode(chat([{"role": "user", "content": "What"}]))


LONG = "What is " * 5000


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": LONG}]},
        {"messages": [{"role": "user", "content": "What", "name": LONG}]},
        {"messages": [{"role": "user", "content": "What"}], "tools": [{**TOOL, "function": {"name": "f", "description": LONG}}]},
        {
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": json.dumps({"x": LONG})}}],
                }
            ]
        },
    ],
)
async def test_whatever_is_long_in_a_chat_holds_up_nobody(
    fields: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = load_prompts(str(write_tiny_model(tmp_path)))
    where: list[threading.Thread] = []

    def encode(call: Call) -> tuple[int, ...]:
        where.append(threading.current_thread())
        return ()

    monkeypatch.setattr(prompts, "encode", encode)
    await prompts.encode_async(parse_call("chat", fields, ("m",), 100))
    assert where[0] is not threading.main_thread()
    await prompts.encode_async(chat(CONVERSATIONS[0]))
    assert where[1] is threading.main_thread()


async def test_the_time_limits_of_a_request_hold_while_others_are_tokenized(tmp_path: Path) -> None:
    prompts = load_prompts(str(write_tiny_model(tmp_path)))
    done = threading.Event()
    busy = asyncio.get_running_loop().run_in_executor(prompts._threads, done.wait, 30)
    limit = Limit(monotonic() + 0.05, "total_timeout", 0.05)
    for waiting in (prompts.encode_async(text(LONG), limit), prompts.encode_inputs_async([LONG], limit)):
        with pytest.raises(errors.ApiError, match="not finished within"):
            await asyncio.wait_for(waiting, 5)
    done.set()
    await busy

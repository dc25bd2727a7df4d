"""A model's chat template: where its directory keeps it, and rendering it as its authors tested it.

The template comes with the model and runs sandboxed: it can format, and it can refuse (`raise_exception`); it can't
reach attributes, files or the environment. Whether it knows tools, and how a call is written, is found by rendering it.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from localmodel.gateway import errors
from localmodel.gateway.tool_calls import ToolFormat

_PROBE_MESSAGES = ({"role": "user", "content": "x"},)
_OF_EVERY_DICT = frozenset(dir({}))
_EXAMPLE = (
    {"role": "system", "content": "x"},
    {"role": "user", "content": "x"},
    {"role": "assistant", "content": "x"},
    {"role": "user", "content": "x"},
)
_PROBE_TOOL = {
    "type": "function",
    "function": {"name": "probe", "description": "x", "parameters": {"type": "object", "properties": {}}},
}


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks assistant text for training; for serving its body is ordinary template text."""

    tags = {"generation"}

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Environment(jinja2.sandbox.ImmutableSandboxedEnvironment):
    def getattr(self, obj: Any, attribute: str) -> Any:
        """What jinja would find, without asking a dict for an attribute that no dict has."""
        if type(obj) is dict and attribute in obj and attribute not in _OF_EVERY_DICT:
            return obj[attribute]
        return super().getattr(obj, attribute)


class ChatTemplate:
    def __init__(self, source: str, special_tokens: Mapping[str, Any], tool_source: str | None = None) -> None:
        """`tool_source` is the template to use when there are tools, of a model that has two."""
        environment = _Environment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols])
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = lambda pattern: datetime.now().strftime(pattern)
        self._template = _compile(environment, source)
        self._tool_template = _compile(environment, tool_source) if tool_source else self._template
        self._special_tokens = dict(special_tokens)

    def render(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> str:
        template = self._tool_template if tools else self._template
        shown = list(tools) or None
        try:
            return template.render(
                messages=messages, tools=shown, documents=None, add_generation_prompt=True, **self._special_tokens
            )
        except jinja2.TemplateError as error:
            reason = (error.message or "no reason given")[:300]
            raise errors.bad_request(f"The model's chat template refuses these messages: {reason}", "messages") from None
        except (TypeError, ValueError, ArithmeticError, LookupError):
            raise errors.bad_request(
                "The model's chat template can't render these messages. Check their roles, order and tool calls.", "messages"
            ) from None

    def example(self) -> str:
        """Some chat, for those who want to know which special tokens there are in one; empty if the template refuses all."""
        for messages in (_EXAMPLE, _PROBE_MESSAGES):
            try:
                return self.render(messages)
            except errors.ApiError:
                continue
        return ""

    @cached_property
    def tool_format(self) -> ToolFormat | None:
        """How the model is told to write a call; None if the template ignores tools or teaches a form that is not known."""
        try:
            with_tool = self.render(_PROBE_MESSAGES, (_PROBE_TOOL,))
            without = self.render(_PROBE_MESSAGES)
        except errors.ApiError:
            return None
        if with_tool == without or "probe" not in with_tool:
            return None
        if "<tool_call>" in with_tool and '"arguments"' in with_tool and "<function=" not in with_tool:
            return "Hermes"
        if '"name": function name, "parameters": dictionary' in with_tool:
            return "Llama"
        return None


def _compile(environment: jinja2.Environment, source: str) -> jinja2.Template:
    """With its globals as a plain dict: each rendering copies them, and copying jinja's chain of maps takes half of its time."""
    template = environment.from_string(source)
    template.globals = dict(template.globals)
    return template


def find_template(directory: Path) -> ChatTemplate | None:
    """The template of a model directory, or None if it has none. Raises OSError, ValueError or jinja2.TemplateError."""
    config = read_json(directory / "tokenizer_config.json")
    named = _sources(directory, config)
    source = named.get("default")
    if not isinstance(source, str):
        return None
    special = special_tokens(config, read_json(directory / "special_tokens_map.json"))
    return ChatTemplate(source, special, named.get("tool_use"))


def _sources(directory: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    separate = directory / "chat_template.jinja"
    if separate.exists():
        return {"default": separate.read_text(encoding="utf-8")}
    value = read_json(directory / "chat_template.json").get("chat_template") or config.get("chat_template")
    if isinstance(value, list):
        return {entry["name"]: entry["template"] for entry in value}
    return {"default": value}


def special_tokens(*sources: Mapping[str, Any]) -> dict[str, Any]:
    """`bos_token`, `eos_token` and the like as the text a template inserts."""
    found: dict[str, Any] = {}
    for source in reversed(sources):
        for name, value in source.items():
            if not name.endswith("_token"):
                continue
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str):
                found[name] = text
    return found


def read_json(path: Path) -> dict[str, Any]:
    """The document, or an empty one if there is no such file."""
    if not path.exists():
        return {}
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise ValueError(f"{path.name} must hold a JSON object")
    return document


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)

"""A model's chat template: where its directory keeps it, and rendering it as its authors tested it.

The template comes with the model and runs sandboxed: it can format, and it can refuse (`raise_exception`); it can't
reach attributes, files or the environment.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from localmodel.gateway import errors


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks assistant text for training; for serving its body is ordinary template text."""

    tags = {"generation"}

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class ChatTemplate:
    def __init__(self, source: str, special_tokens: Mapping[str, Any]) -> None:
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = lambda pattern: datetime.now().strftime(pattern)
        self._template = environment.from_string(source)
        self._special_tokens = dict(special_tokens)

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        try:
            return self._template.render(
                messages=messages, tools=None, documents=None, add_generation_prompt=True, **self._special_tokens
            )
        except jinja2.TemplateError as error:
            reason = (error.message or "no reason given")[:300]
            raise errors.bad_request(f"The model's chat template refuses these messages: {reason}", "messages") from None
        except (TypeError, ValueError, ArithmeticError, LookupError):
            raise errors.bad_request("The model's chat template can't render these messages.", "messages") from None


def find_template(directory: Path) -> ChatTemplate | None:
    """The template of a model directory, or None if it has none. Raises OSError, ValueError or jinja2.TemplateError."""
    config = read_json(directory / "tokenizer_config.json")
    source = _source(directory, config)
    if source is None:
        return None
    return ChatTemplate(source, special_tokens(config, read_json(directory / "special_tokens_map.json")))


def _source(directory: Path, config: Mapping[str, Any]) -> str | None:
    separate = directory / "chat_template.jinja"
    if separate.exists():
        return separate.read_text(encoding="utf-8")
    value = read_json(directory / "chat_template.json").get("chat_template") or config.get("chat_template")
    if isinstance(value, list):
        named = {entry["name"]: entry["template"] for entry in value}
        value = named.get("default")
    return value if isinstance(value, str) else None


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

"""Reading `tools` and `tool_choice`, and the schema that forces a call when one is demanded.

Pure. Whether the model knows how to call tools is the chat template's to say (`chat_template`); how a call is found in its
text is `tool_calls`. Nothing is executed here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localmodel.gateway import errors
from localmodel.gateway.openai_fields import boolean, refuse_members
from localmodel.gateway.openai_format import schema_text

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_TOOLS = 128
_SPEAKS_OF_OTHERS = {
    "additionalProperties", "patternProperties", "unevaluatedProperties", "propertyNames", "minProperties", "dependentSchemas",
    "$ref", "allOf", "anyOf", "oneOf", "if",
}  # fmt: skip
_CHOICES = '\'tool_choice\' must be none, auto, required or {"type": "function", "function": {"name": ...}}.'
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tools:
    shown: tuple[Document, ...]
    """What the chat template gets to see, in OpenAI's form."""
    forced: tuple[str, ...] = ()
    """Names of which one must be called; empty: the model decides."""
    parallel: bool = True
    """More than one call in one answer is allowed."""

    def schema(self, arguments_key: str) -> str:
        """Of one forced call: an object with the name and, under `arguments_key`, arguments that fit that function."""
        functions = [tool["function"] for tool in self.shown if tool["function"]["name"] in self.forced]
        shared: Document = {}
        calls = [_call_schema(function, arguments_key, f"f{number}", shared) for number, function in enumerate(functions)]
        document = calls[0] if len(calls) == 1 else {"anyOf": calls}
        return schema_text({**document, "$defs": shared} if shared else document, "tools")


def _call_schema(function: Document, arguments_key: str, key: str, shared: Document) -> Document:
    parameters = _closed(function["parameters"])
    if _refers(parameters):
        shared[key] = _rebased(parameters, f"#/$defs/{key}")
        parameters = {"$ref": f"#/$defs/{key}"}
    return {
        "type": "object",
        "properties": {"name": {"const": function["name"]}, arguments_key: parameters},
        "required": ["name", arguments_key],
        "additionalProperties": False,
    }


def _closed(parameters: Document) -> Document:
    """Arguments that the function does not name are not invented, unless its schema speaks of others itself."""
    if "properties" not in parameters or _SPEAKS_OF_OTHERS & parameters.keys():
        return parameters
    return {**parameters, "additionalProperties": False}


def _refers(schema: Any) -> bool:
    if isinstance(schema, dict):
        return isinstance(schema.get("$ref"), str) or any(_refers(value) for value in schema.values())
    return isinstance(schema, list) and any(_refers(value) for value in schema)


def _rebased(schema: Any, root: str) -> Any:
    """The same schema below another root: its own references still lead to where they led."""
    if isinstance(schema, list):
        return [_rebased(value, root) for value in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {name: _rebased(value, root) for name, value in schema.items()}
    target = schema.get("$ref")
    if isinstance(target, str) and target.startswith("#"):
        moved["$ref"] = root + target[1:]
    return moved


def parse_tools(body: Mapping[str, Any]) -> Tools | None:
    """None without tools, or if `tool_choice` is none: then the model must not see any."""
    value = body.get("tools")
    choice = body.get("tool_choice")
    if value is None or value == []:
        if choice not in (None, "none", "auto"):
            raise errors.bad_request(
                "'tool_choice' asks for a call, but 'tools' is empty. Send tools, or leave it out.", "tool_choice"
            )
        return None
    if not isinstance(value, list) or len(value) > _MAX_TOOLS:
        raise errors.bad_request(f"'tools' must be a list of at most {_MAX_TOOLS} tools.", "tools")
    shown = tuple(_tool(tool, f"tools[{index}]") for index, tool in enumerate(value))
    names = [tool["function"]["name"] for tool in shown]
    if len(set(names)) != len(names):
        raise errors.bad_request("'tools' names a function twice. Name each once.", "tools")
    forced = _forced(choice, tuple(names))
    parallel = body.get("parallel_tool_calls") is None or boolean(body, "parallel_tool_calls")
    if choice == "none":
        return None
    if not forced:
        _refuse_strict(value)
    return Tools(shown, forced, parallel)


def _forced(choice: Any, names: tuple[str, ...]) -> tuple[str, ...]:
    match choice:
        case None | "none" | "auto":
            return ()
        case "required":
            return names
        case {"type": "function", "function": {"name": str(name)}}:
            if name not in names:
                raise errors.bad_request(
                    "'tool_choice' names a function that is not in 'tools'. Name one that is.", "tool_choice"
                )
            return (name,)
        case {"type": str(kind)} if kind != "function":
            raise errors.unsupported("tool_choice", _CHOICES)
    raise errors.bad_request(_CHOICES, "tool_choice")


def _tool(tool: Any, where: str) -> Document:
    if not isinstance(tool, dict):
        raise errors.bad_request(f"'{where}' must be an object with 'type' and 'function'.", where)
    kind = tool.get("type")
    if kind != "function":
        message = f"'{where}.type' must be function; other tools are not supported here."
        raise (
            errors.unsupported(f"{where}.type", message)
            if isinstance(kind, str)
            else errors.bad_request(message, f"{where}.type")
        )
    refuse_members(tool, {"type", "function"}, where)
    where = f"{where}.function"
    function = tool.get("function")
    if not isinstance(function, dict):
        raise errors.bad_request(f"'{where}' must be an object with 'name'.", where)
    refuse_members(function, {"name", "description", "parameters", "strict"}, where)
    name, description = function.get("name"), function.get("description")
    parameters = function.get("parameters")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise errors.bad_request(f"'{where}.name' must be 1 to 64 letters, digits, underscores or dashes.", f"{where}.name")
    if not isinstance(description, str | None):
        raise errors.bad_request(f"'{where}.description' must be a text.", f"{where}.description")
    if not isinstance(parameters, dict | None):
        raise errors.bad_request(f"'{where}.parameters' must be a JSON schema, an object.", f"{where}.parameters")
    boolean(function, "strict", f"{where}.strict")
    # Templates read all three, whether the client sent them or not.
    shown = {"name": name, "description": description or "", "parameters": parameters or {"type": "object", "properties": {}}}
    return {"type": "function", "function": shown}


def _refuse_strict(tools: list[Document]) -> None:
    """Arguments can be held to their schema only where a call is certain."""
    for index, tool in enumerate(tools):
        if tool["function"].get("strict"):
            param = f"tools[{index}].function.strict"
            message = f"'{param}' is honoured only when 'tool_choice' demands a call. Leave it out, or demand one."
            raise errors.unsupported(param, message)

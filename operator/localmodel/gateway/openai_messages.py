"""Reading `messages` and `prompt`: what a chat template, or the tokenizer, gets to see.

Pure. Content that is not text is refused by name, because dropping an image silently would answer another question.
"""

import json
from collections.abc import Mapping
from typing import Any

from localmodel.gateway import errors
from localmodel.gateway.openai_fields import refuse_members

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
"""A developer message is what newer clients call a system message."""
_MEMBERS = {"assistant": {"name", "tool_calls"}, "tool": {"name", "tool_call_id"}}
_MAX_MESSAGES = 4096
_PLAIN = {"role", "content"}
Message = dict[str, Any]


def parse_messages(body: Mapping[str, Any]) -> list[Message]:
    """Each with `role` and `content`, a text; those about tools also with `tool_calls` or `tool_call_id`."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise errors.bad_request("'messages' must be a list with at least one message.", "messages")
    if len(messages) > _MAX_MESSAGES:
        raise errors.bad_request(f"'messages' holds more than {_MAX_MESSAGES} messages. Send fewer.", "messages")
    return [_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


def place_of_tools(messages: list[Message]) -> str | None:
    """The first member that only a model with tools can understand, as a param; None if there is none."""
    for index, message in enumerate(messages):
        if message["role"] == "tool":
            return f"messages[{index}].role"
        if "tool_calls" in message:
            return f"messages[{index}].tool_calls"
    return None


def _message(message: Any, where: str) -> Message:
    if not isinstance(message, dict):
        raise errors.bad_request(f"'{where}' must be an object with 'role' and 'content'.", where)
    role = message.get("role")
    if role == "function":
        raise errors.unsupported(f"{where}.role", "The role 'function' is not supported here. Use 'tool'.")
    if not isinstance(role, str) or role not in _ROLES:
        raise errors.bad_request(f"'{where}.role' must be one of {', '.join(_ROLES)}.", f"{where}.role")
    content = message.get("content")
    if role != "tool" and isinstance(content, str) and message.keys() == _PLAIN:
        return {"role": _ROLES[role], "content": content}
    refuse_members(message, _PLAIN | _MEMBERS.get(role, {"name"}), where)
    parsed: Message = {"role": _ROLES[role]}
    if calls := message.get("tool_calls"):
        parsed["tool_calls"] = _tool_calls(calls, f"{where}.tool_calls")
    absent = content is None and "tool_calls" in parsed
    parsed["content"] = "" if absent else _content(content, f"{where}.content")
    if role == "tool":
        parsed["tool_call_id"] = _text(message, "tool_call_id", where)
    if message.get("name") is not None:
        parsed["name"] = _text(message, "name", where)
    return parsed


def _text(document: Mapping[str, Any], name: str, where: str) -> str:
    value = document.get(name)
    if not isinstance(value, str):
        raise errors.bad_request(f"'{where}.{name}' must be a text.", f"{where}.{name}")
    return value


def _content(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise errors.bad_request(f"'{where}' must be a text or a list of text parts.", where)
    return "".join(_part(part, f"{where}[{index}]") for index, part in enumerate(content))


def _part(part: Any, where: str) -> str:
    if not isinstance(part, dict):
        raise errors.bad_request(f"'{where}' must be an object with 'type'.", where)
    if part.get("type") != "text":
        raise errors.unsupported(f"{where}.type", "Only content parts of type 'text' are supported here. Leave the others out.")
    refuse_members(part, {"type", "text"}, where)
    return _text(part, "text", where)


def _tool_calls(calls: Any, where: str) -> list[Message]:
    if not isinstance(calls, list):
        raise errors.bad_request(f"'{where}' must be a list.", where)
    return [_tool_call(call, f"{where}[{index}]") for index, call in enumerate(calls)]


def _tool_call(call: Any, where: str) -> Message:
    """With the arguments as an object: templates write it as JSON themselves."""
    if not isinstance(call, dict) or not isinstance(call.get("function"), dict):
        raise errors.bad_request(f"'{where}' must be an object with 'id', 'type' and 'function'.", where)
    if call.get("type", "function") != "function":
        raise errors.unsupported(f"{where}.type", f"'{where}.type' must be function; others are not supported here.")
    refuse_members(call, {"id", "type", "function", "index"}, where)
    function, inside = call["function"], f"{where}.function"
    refuse_members(function, {"name", "arguments"}, inside)
    try:
        arguments = json.loads(_text(function, "arguments", inside) or "{}", parse_constant=_no_number)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        message = f"'{inside}.arguments' must be a text that holds a JSON object."
        raise errors.bad_request(message, f"{inside}.arguments")
    named = {"name": _text(function, "name", inside), "arguments": arguments}
    return {"id": _text(call, "id", where), "type": "function", "function": named}


def _no_number(name: str) -> Any:
    raise ValueError(name)


def parse_prompt(body: Mapping[str, Any], vocabulary: int) -> str | tuple[int, ...]:
    """One prompt: a text, a list of token ids, or a list that holds just one of these."""
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, str):
        if not prompt:
            raise errors.bad_request("'prompt' is empty. Send a text or token ids.", "prompt")
        return prompt
    if isinstance(prompt, list) and prompt:
        if isinstance(prompt[0], str | list):
            raise errors.bad_request("'prompt' holds several prompts; send one request for each.", "prompt")
        if all(type(token) is int and 0 <= token < vocabulary for token in prompt):
            return tuple(prompt)
    raise errors.bad_request(f"'prompt' must be a text or a list of token ids from 0 to {vocabulary - 1}.", "prompt")

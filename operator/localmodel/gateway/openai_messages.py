"""Reading `messages` and `prompt`: what a chat template, or the tokenizer, gets to see.

Pure. Content that is not text is refused by name, because dropping an image silently would answer another question.
"""

from collections.abc import Mapping
from typing import Any

from localmodel.gateway import errors

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
"""A developer message is what newer clients call a system message."""
_MAX_MESSAGES = 4096


def parse_messages(body: Mapping[str, Any]) -> list[dict[str, str]]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise errors.bad_request("'messages' must be a list with at least one message.", "messages")
    if len(messages) > _MAX_MESSAGES:
        raise errors.bad_request(f"'messages' holds more than {_MAX_MESSAGES} messages.", "messages")
    return [_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _message(message: Any, where: str) -> dict[str, str]:
    if not isinstance(message, dict):
        raise errors.bad_request(f"'{where}' must be an object with 'role' and 'content'.", where)
    role = message.get("role")
    if role in ("tool", "function"):
        raise errors.unsupported(f"{where}.role", "Tool messages are not supported here.")
    if not isinstance(role, str) or role not in _ROLES:
        raise errors.bad_request(f"'{where}.role' must be one of {', '.join(_ROLES)}.", f"{where}.role")
    parsed = {"role": _ROLES[role], "content": _content(message.get("content"), f"{where}.content")}
    for name, value in message.items():
        if name in ("role", "content") or value is None or value == []:
            continue
        param = f"{where}.{name[:64]}"
        if name != "name":
            raise errors.unsupported(param, f"'{param}' is not supported here. Leave it out.")
        if not isinstance(value, str):
            raise errors.bad_request(f"'{param}' must be a text.", param)
        parsed["name"] = value
    return parsed


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
        raise errors.unsupported(f"{where}.type", "Only content parts of type 'text' are supported here.")
    text = part.get("text")
    if not isinstance(text, str):
        raise errors.bad_request(f"'{where}.text' must be a text.", f"{where}.text")
    for name in part:
        if name not in ("type", "text"):
            param = f"{where}.{name[:64]}"
            raise errors.unsupported(param, f"'{param}' is not supported here. Leave it out.")
    return text


def parse_prompt(body: Mapping[str, Any], vocabulary: int) -> str | tuple[int, ...]:
    """One prompt: a text, a list of token ids, or a list that holds just one of these."""
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, str):
        if not prompt:
            raise errors.bad_request("'prompt' is empty.", "prompt")
        return prompt
    if isinstance(prompt, list) and prompt:
        if isinstance(prompt[0], str | list):
            raise errors.bad_request("'prompt' holds several prompts; send one request for each.", "prompt")
        if all(type(token) is int and 0 <= token < vocabulary for token in prompt):
            return tuple(prompt)
    raise errors.bad_request(f"'prompt' must be a text or a list of token ids from 0 to {vocabulary - 1}.", "prompt")

"""JSON as this server accepts it: what two parsers could read differently is refused, not guessed.

Pure: bytes in, values or an ApiError out. It must never let an odd document become a 500.
"""

import json
from codecs import BOM_UTF8
from typing import Any

from localmodel.gateway import errors

MAX_DEPTH = 64
MAX_VALUES = 256 * 1024
"""A document of eight megabytes can hold millions, and reading them would stall every other request for seconds."""
MAX_CONTAINERS = 32 * 1024
"""Objects and lists together; the 4,096 messages that a request may hold need 12,289."""


def parse_object(body: bytes) -> dict[str, Any]:
    """The document of a request body. Refuses duplicate keys, NaN, lone surrogates, huge integers and deep nesting."""
    value = parse(body)
    if not isinstance(value, dict):
        raise errors.invalid_json("The body must be a JSON object.")
    return value


def parse(body: bytes) -> Any:
    if not body or body.isspace():
        raise errors.invalid_json("The body is empty; send a JSON object.")
    if body.startswith(BOM_UTF8):
        raise errors.invalid_json("The body begins with a byte order mark, which is no JSON; send UTF-8 without it.")
    _check_count(body)
    try:
        value = _decode(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise errors.invalid_json(f"The body is not UTF-8 (byte {error.start}). Send it in UTF-8.") from None
    except json.JSONDecodeError as error:
        raise errors.invalid_json(f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        raise errors.invalid_json("The body holds an integer with too many digits. Send a smaller one.") from None
    _check(value, body)
    return value


def _check_count(body: bytes) -> None:
    """Refuses what would take too long to read. What stands inside texts counts only until it matters."""
    if len(body) < MAX_CONTAINERS or (_values(body) <= MAX_VALUES and _containers(body) <= MAX_CONTAINERS):
        return
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    texts = plain.count(b'"') // 2
    if texts <= 2 * MAX_VALUES:
        plain = b"".join(plain.split(b'"')[::2])
        if _values(plain) <= MAX_VALUES and _containers(plain) <= MAX_CONTAINERS:
            return
    raise errors.invalid_json(f"The body holds more than {MAX_VALUES} values or {MAX_CONTAINERS} objects and lists. Send less.")


def _values(body: bytes) -> int:
    return body.count(b",") + 1


def _containers(body: bytes) -> int:
    return body.count(b"{") + body.count(b"[")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise errors.invalid_json("The body has an object with the same key twice; send each key once.")
    return result


def _refuse_constant(name: str) -> Any:
    raise errors.invalid_json(f"The body holds {name}, which is not JSON. Send a finite number, or null.")


_decode = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant).decode


def _too_deep() -> errors.ApiError:
    return errors.invalid_json(f"The body is nested deeper than {MAX_DEPTH} levels. Send a flatter one.")


def _check(value: Any, body: bytes) -> None:
    """Walks the document only if its bytes could hide a lone surrogate or deep nesting."""
    surrogates = b"\\ud" in body or b"\\uD" in body
    if not surrogates and body.count(b"{") + body.count(b"[") <= MAX_DEPTH:
        return
    level = [value]
    depth = 0
    while level:
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                _check_text(item)
            elif isinstance(item, dict):
                below.extend(item)
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        if any(isinstance(item, dict | list) for item in level):
            depth += 1
        if depth > MAX_DEPTH:
            raise _too_deep()
        level = below


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise errors.invalid_json("The body holds half of a surrogate pair. Send whole characters.") from None

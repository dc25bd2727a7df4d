"""Reading `response_format`: which JSON schema the answer must fit.

Pure. The schema goes to the engine as text; whether it can be enforced is the engine's to say. Nothing is relaxed here.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from localmodel.gateway import errors
from localmodel.gateway.openai_fields import refuse_members

_ANY_OBJECT = '{"type": "object"}'
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_SCHEMA_CHARACTERS = 65536


def response_schema(body: Mapping[str, Any]) -> str | None:
    """A JSON schema as text; None when any text will do."""
    value = body.get("response_format")
    if value is None:
        return None
    if not isinstance(value, dict):
        raise errors.bad_request("'response_format' must be an object with 'type'.", "response_format")
    kind = value.get("type")
    refuse_members(value, {"type", "json_schema"} if kind == "json_schema" else {"type"}, "response_format")
    match kind:
        case "text":
            return None
        case "json_object":
            return _ANY_OBJECT
        case "json_schema":
            return _schema(value.get("json_schema"))
        case str():
            message = "'response_format.type' must be text, json_object or json_schema."
            raise errors.unsupported("response_format.type", message)
    raise errors.bad_request("'response_format.type' must be text, json_object or json_schema.", "response_format.type")


def _schema(value: Any) -> str:
    """`strict` makes no difference: the schema is always enforced. `description` is not shown to the model."""
    where = "response_format.json_schema"
    if not isinstance(value, dict):
        raise errors.bad_request(f"'{where}' must be an object with 'name' and 'schema'.", where)
    refuse_members(value, {"name", "description", "schema", "strict"}, where)
    name = value.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise errors.bad_request(f"'{where}.name' must be 1 to 64 letters, digits, underscores or dashes.", f"{where}.name")
    if not isinstance(value.get("description"), str | None):
        raise errors.bad_request(f"'{where}.description' must be a text.", f"{where}.description")
    if not isinstance(value.get("strict"), bool | None):
        raise errors.bad_request(f"'{where}.strict' must be true or false.", f"{where}.strict")
    schema = value.get("schema")
    if schema is None:
        return _ANY_OBJECT
    if not isinstance(schema, dict):
        raise errors.bad_request(f"'{where}.schema' must be a JSON schema, an object.", f"{where}.schema")
    return schema_text(schema, f"{where}.schema")


def schema_text(schema: Mapping[str, Any], param: str) -> str:
    text = json.dumps(schema, ensure_ascii=False)
    if len(text) > _MAX_SCHEMA_CHARACTERS:
        message = (
            f"'{param}' is a schema of {len(text)} characters; at most {_MAX_SCHEMA_CHARACTERS} are taken. Send a smaller one."
        )
        raise errors.bad_request(message, param)
    return text

"""Reads one request of the channel.

Why it exists: what a request may look like is `api.channel`'s; what a malformed one is answered is said here once.
"""

from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from localmodel.api.channel import Cancel, Embed, Events, Generate, StatusRequest, Submit
from localmodel.engine.errors import Refused

Request = Submit | Cancel | Events | StatusRequest | Generate | Embed

_REQUESTS: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="op")])


def parse_request(document: str | bytes) -> Request:
    """Raises Refused, naming the first field that is wrong."""
    try:
        return _REQUESTS.validate_json(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Refused("invalid_request", f"{where}: {first['msg']}" if where else first["msg"]) from error

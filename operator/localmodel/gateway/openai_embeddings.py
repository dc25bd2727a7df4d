"""An embeddings request, read and checked, and the body of its answer.

Pure. Token ids are passed on as they are; only texts get the special tokens that the model wants, where they are tokenized.
"""

import base64
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from localmodel.gateway import errors
from localmodel.gateway import openai_fields as fields
from localmodel.gateway.openai_request import parse_model

KNOWN_OF_EMBEDDINGS = frozenset({"model", "input", "encoding_format", "dimensions"})
MAX_INPUTS = 2048
Encoding = Literal["float", "base64"]


@dataclass(frozen=True, slots=True)
class EmbeddingCall:
    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    encoding: Encoding
    dimensions: int | None
    """What the client expects; None if it takes what there is."""


def parse_embedding_call(body: Mapping[str, Any], served: tuple[str, ...], vocabulary: int) -> EmbeddingCall:
    """Raises ApiError 400, or 404 for the model's name."""
    fields.refuse_unknown(body, KNOWN_OF_EMBEDDINGS)
    encoding = body.get("encoding_format")
    if encoding not in (None, "float", "base64"):
        raise errors.bad_request("'encoding_format' must be float or base64.", "encoding_format")
    return EmbeddingCall(
        inputs=_inputs(body.get("input"), vocabulary),
        encoding=encoding or "float",
        dimensions=fields.integer(body, "dimensions", 1, 2**31 - 1),
        model=parse_model(body, served),
    )


def _inputs(value: Any, vocabulary: int) -> tuple[str | tuple[int, ...], ...]:
    alone = isinstance(value, str) or (isinstance(value, list) and value and type(value[0]) is int)
    several = [value] if alone else value
    if not isinstance(several, list) or not several:
        raise errors.bad_request("'input' must be a text, a list of texts, or one or several lists of token ids.", "input")
    if len(several) > MAX_INPUTS:
        raise errors.bad_request(f"'input' holds {len(several)} inputs; at most {MAX_INPUTS} go into one request.", "input")
    return tuple(_input(each, "input" if alone else f"input[{index}]", vocabulary) for index, each in enumerate(several))


def _input(value: Any, where: str, vocabulary: int) -> str | tuple[int, ...]:
    if value in ("", []):
        raise errors.bad_request(f"'{where}' is empty. Send a text or token ids.", where)
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(type(token) is int and 0 <= token < vocabulary for token in value):
        return tuple(value)
    raise errors.bad_request(f"'{where}' must be a text or a list of token ids from 0 to {vocabulary - 1}.", where)


def check_lengths(inputs: Sequence[tuple[int, ...]], window: int) -> None:
    for index, ids in enumerate(inputs):
        where = f"input[{index}]" if len(inputs) > 1 else "input"
        if not ids:
            raise errors.bad_request(f"'{where}' is empty after tokenizing. Send some text.", where)
        if len(ids) > window:
            message = f"'{where}' has {len(ids)} tokens, more than this model's window of {window}. Send it in parts."
            raise errors.context_length_exceeded(message, where)


def check_dimensions(call: EmbeddingCall, dimensions: int) -> None:
    if call.dimensions not in (None, dimensions):
        message = f"This model's embeddings have {dimensions} dimensions; they can't be shortened. Leave 'dimensions' out."
        raise errors.unsupported("dimensions", message)


def embeddings_body(call: EmbeddingCall, vectors: Sequence[str], tokens: int) -> Iterator[bytes]:
    """The parts of the answer, a vector each: nobody else has to wait until thousands of them are written.
    `vectors` are Base64 of little-endian float32."""
    yield b'{"object": "list", "data": ['
    for index, vector in enumerate(vectors):
        shown = vector if call.encoding == "base64" else numbers(vector)
        document = {"object": "embedding", "index": index, "embedding": shown}
        yield (b", " if index else b"") + json.dumps(document).encode()
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    yield b'], "model": ' + json.dumps(call.model).encode() + b', "usage": ' + json.dumps(usage).encode() + b"}"


def numbers(vector: str) -> list[float]:
    """Raises ValueError (binascii.Error is one) or struct.error if it is no vector."""
    return [value for (value,) in struct.iter_unpack("<f", base64.b64decode(vector, validate=True))]

"""The hash chain of the log: every line names its place, the hash of the line before it, and its own.

Pure. A line is `{"chain":ID,"seq":N,"prev":HASH, ...content... ,"hash":HASH}`; its own hash is taken over all bytes before
`,"hash":`. With a key the hash is an HMAC: then only who has the key can write a line that fits. What a log proves is said in
docs/gateway.md; `chain_check` reads what this writes.
"""

import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from typing import Any

FIRST_PREV = "0" * 64
_HASH_SUFFIX = re.compile(rb',"hash":"([0-9a-f]{64})"\}')
_SUFFIX_LENGTH = len(',"hash":""}') + 64


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain stands: its last line."""

    chain: str
    seq: int
    hash: str


class Chain:
    """Makes lines. One writer; `rewind` takes back lines that could not be written."""

    def __init__(self, chain_id: str, key: bytes = b"") -> None:
        self._id = chain_id
        self._key = key
        self._seq, self._hash = -1, FIRST_PREV

    @property
    def head(self) -> Head:
        return Head(self._id, self._seq, self._hash)

    def append(self, content: bytes) -> bytes:
        """`content`: a JSON object that is not empty. Returns the line with its line feed."""
        self._seq += 1
        start = f'{{"chain":"{self._id}","seq":{self._seq},"prev":"{self._hash}",'.encode()
        body = start + content[1:-1]
        self._hash = digest_of(body, self._key)
        return body + f',"hash":"{self._hash}"}}\n'.encode()

    def rewind(self, head: Head) -> None:
        self._seq, self._hash = head.seq, head.hash


@dataclass(frozen=True, slots=True)
class Line:
    """A line that has the form. Whether its place and its hashes are right is another matter."""

    chain: str
    seq: int
    prev: str
    hash: str
    intact: bool
    """Its own hash is that of its bytes."""
    fields: dict[str, Any]

    @property
    def head(self) -> Head:
        return Head(self.chain, self.seq, self.hash)


def digest_of(body: bytes, key: bytes = b"") -> str:
    return hmac.new(key, body, hashlib.sha256).hexdigest() if key else hashlib.sha256(body).hexdigest()


def read_line(raw: bytes, key: bytes = b"") -> Line | None:
    """None: it has not the form of a line, with or without its line feed."""
    raw = raw.rstrip(b"\r\n")
    suffix = _HASH_SUFFIX.fullmatch(raw[-_SUFFIX_LENGTH:])
    if suffix is None:
        return None
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    chain, seq, prev = fields.get("chain"), fields.get("seq"), fields.get("prev")
    if not isinstance(chain, str) or type(seq) is not int or not isinstance(prev, str):
        return None
    digest = suffix[1].decode()
    intact = hmac.compare_digest(digest_of(raw[:-_SUFFIX_LENGTH], key), digest)
    return Line(chain, seq, prev, digest, intact, fields)

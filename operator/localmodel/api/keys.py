"""How an API key is kept at rest: as the hash of a random text that is too long to guess, so that no salt is needed.

The command line makes such hashes, the gateway compares with them; the key itself is stored nowhere.
"""

import hashlib
import re

_FORM = re.compile(r"sha256:([0-9a-fA-F]{64})")


def digest_key(key: str) -> bytes:
    """32 bytes. A key with bytes that are no UTF-8 (as a header may carry) has a digest, too, and fits no stored one."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def format_hash(key: str) -> str:
    """`sha256:` and 64 hex digits: one line of a Secret's value."""
    return f"sha256:{digest_key(key).hex()}"


def parse_hash(line: str) -> bytes | None:
    """The digest that a line holds, or None if it is no hash of ours."""
    found = _FORM.fullmatch(line)
    return bytes.fromhex(found[1]) if found else None

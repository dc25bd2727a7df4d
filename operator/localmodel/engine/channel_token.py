"""The random token that proves to the engine that a request comes from the gateway.

Why it exists: both read it from one file, and either may start first, so whoever comes first makes it and the other
reads the same. Standard library only. The token must never be logged or sent back.
"""

import hmac
import os
import secrets
import tempfile
from pathlib import Path

TOKEN_BYTES = 32


def read_or_create_token(path: Path) -> str:
    """64 hexadecimal characters. The file appears whole, readable by its owner only. Raises OSError."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".channel-token-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(TOKEN_BYTES))
            os.link(temporary, path)  # fails if the other side was faster, and never replaces its token
        except FileExistsError:
            pass
        finally:
            Path(temporary).unlink()
    return path.read_text().strip()


def tokens_match(given: str, expected: str) -> bool:
    """Constant time."""
    return hmac.compare_digest(given.encode(), expected.encode())

"""The bytes and the text of single tokens, for log-probabilities.

A tokenizer decodes sequences, not tokens: half a character has no text, but it has bytes. Which bytes a token stands for
follows from the tokenizer's decoder, which is read here once. It must not decode answers; the engine does that.
"""

import json
import re
from functools import lru_cache
from typing import Any

from tokenizers import Tokenizer

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenTexts:
    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._added = {number: token.content for number, token in tokenizer.get_added_tokens_decoder().items()}
        self._replaced: list[tuple[str, str]] = []
        self._byte_level = self._byte_fallback = False
        if tokenizer.decoder is not None:
            self._read(json.loads(tokenizer.decoder.__getstate__()))
        self.bytes = lru_cache(8192)(self._bytes)
        """Token id to its UTF-8 bytes, which may be a part of a character."""

    def _read(self, decoder: dict[str, Any]) -> None:
        match decoder:
            case {"type": "Sequence", "decoders": list(parts)}:
                for part in parts:
                    self._read(part)
            case {"type": "ByteLevel"}:
                self._byte_level = True
            case {"type": "ByteFallback"}:
                self._byte_fallback = True
            case {"type": "Replace", "pattern": {"String": str(old)}, "content": str(new)}:
                self._replaced.append((old, new))
            case {"type": "Metaspace", "replacement": str(old)}:
                self._replaced.append((old, " "))
            case {"type": "BPEDecoder", "suffix": str(old)}:
                self._replaced.append((old, " "))

    def _bytes(self, token: int) -> bytes:
        if token in self._added:
            return self._added[token].encode()
        text = self._tokenizer.id_to_token(token)
        if text is None:
            return b""
        if self._byte_level:
            return b"".join([_BYTE_OF[c] if c in _BYTE_OF else c.encode() for c in text])
        if self._byte_fallback and (found := _BYTE_TOKEN.fullmatch(text)):
            return bytes([int(found[1], 16)])
        for old, new in self._replaced:
            text = text.replace(old, new)
        return text.encode()


def shown(data: bytes, mark: str = "") -> str:
    """The text of a token; one that is no whole characters is shown by its bytes in hexadecimal, as OpenAI does."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return mark + "".join(f"\\x{byte:02x}" for byte in data)


def _byte_characters() -> dict[str, bytes]:
    """The characters that byte-level vocabularies write for bytes: printable Latin-1 for itself, the others from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    characters = {chr(byte): bytes([byte]) for byte in plain}
    return characters | {chr(0x100 + number): bytes([byte]) for number, byte in enumerate(others)}


_BYTE_OF = _byte_characters()

"""The text of tokens that are whole characters and read the same behind any text, looked up once for each.

Why it exists: to decode a token costs more than all else that is done for it. Most tokens of most tokenizers are plain;
whether one is follows from its text and from the kind of decoder. It keeps no state of any answer: what precedes a token, and
whether half a character is held back, is the detokenizer's to know.
"""

import json
from typing import Any

from tokenizers import Tokenizer

REPLACEMENT = "\ufffd"


class PlainTokens(dict[int, str]):
    """Token id to its text behind other text; empty for a token that is not plain. Filled as tokens come, by one thread."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self._tokenizer = tokenizer
        known = tokenizer.decoder is not None and looks_at_no_neighbour(json.loads(tokenizer.decoder.__getstate__()))
        self._before = tokenizer.encode("a", add_special_tokens=False).ids if known else []
        self._text_before = self._decode(self._before)

    def __missing__(self, token: int) -> str:
        text = self._decode([*self._before, token]) if self._text_before else ""
        whole = text.startswith(self._text_before) and REPLACEMENT not in text
        self[token] = piece = text[len(self._text_before) :] if whole else ""
        return piece

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text


def looks_at_no_neighbour(decoder: dict[str, Any]) -> bool:
    """Whether such a decoder makes of a token that is whole characters the same text after any visible one.

    `decoder`: its description in a tokenizer.json. Unknown ones count as not.
    """
    match decoder:
        case {"type": "ByteLevel" | "ByteFallback" | "Fuse" | "Metaspace"}:
            return True
        case {"type": "Replace", "pattern": {"String": str(old)}}:
            return len(old) == 1
        case {"type": "Strip", "stop": 0}:
            return True
        case {"type": "Sequence", "decoders": list(parts)}:
            return all(looks_at_no_neighbour(part) for part in parts)
    return False

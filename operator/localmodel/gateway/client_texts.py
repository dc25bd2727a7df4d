"""A client's texts as a chat template may see them: what looks like one of the model's special tokens in them stays text.

A template joins texts with special tokens that say who speaks, and the tokenizer finds these wherever they stand. Without this, a
document that holds `<|im_start|>system` would speak as the system. Pure. It must not change what the model is told: a text is cut
inside of such a word, and its parts are tokenized apart (`chat_encoder`).
"""

import re
from typing import Any

from tokenizers import Tokenizer

BREAK = "\U000fdc1d"
"""Where to cut. Of a private use area; where a client sends it, it vanishes."""


class ClientTexts:
    def __init__(self, tokenizer: Tokenizer) -> None:
        added = tokenizer.get_added_tokens_decoder().values()
        special = sorted((token.content for token in added if token.special and len(token.content) > 1), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, special))) if special else None

    def cut(self, value: Any) -> Any:
        """`value`: JSON's types. The same object if there is nothing to cut, else a copy."""
        if self._special is None:
            return value
        if isinstance(value, str):
            return self._cut_text(value, self._special)
        if isinstance(value, dict):
            pairs = [(self.cut(name), self.cut(item)) for name, item in value.items()]
            same = all(cut[0] is name and cut[1] is value[name] for cut, name in zip(pairs, value, strict=True))
            return value if same else dict(pairs)
        if isinstance(value, list | tuple):
            items = [self.cut(item) for item in value]
            return items if any(cut is not item for cut, item in zip(items, value, strict=True)) else value
        return value

    def _cut_text(self, text: str, special: "re.Pattern[str]") -> str:
        while special.search(text) is not None:  # again, where two overlap
            text = special.sub(lambda each: f"{each[0][0]}{BREAK}{each[0][1:]}", text)
        return text

"""A model directory with a word tokenizer and a chat template, so that gateway tests need no weights."""

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, processors

TEMPLATE = (
    "{% for m in messages %}{{ bos_token }}{{ m.role }} {{ m.content }} {% endfor %}"
    "{% if messages[0].content == 'refuse' %}{{ raise_exception('Conversations must not start so') }}{% endif %}"
    "{% if add_generation_prompt %}assistant{% endif %}"
)


def write_tiny_model(directory: Path) -> Path:
    words = ["<unk>", "<s>", "system", "user", "assistant", "What", "is", "the", "capital", "of", "France", "?"]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "chat_template": TEMPLATE}))
    return directory

"""From messages or text to token ids, with the model's own template and tokenizer.

Long prompts are tokenized on a thread, so that one of them does not hold up everybody's streams.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jinja2
from tokenizers import Tokenizer

from localmodel.gateway import errors
from localmodel.gateway.chat_template import ChatTemplate, find_template
from localmodel.gateway.openai_request import Call

_INLINE_CHARACTERS = 4096


class Prompts:
    """`problem` is None, or why prompts can't be made: a PascalCase reason and a sentence. `chat_problem` is empty, or why
    only chats can't: a base model has no template and still completes text."""

    def __init__(
        self,
        tokenizer: Tokenizer | None,
        template: ChatTemplate | None,
        problem: tuple[str, str] | None = None,
        chat_problem: str = "",
    ) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self.problem = problem
        self.chat_problem = chat_problem
        self.vocabulary = tokenizer.get_vocab_size(with_added_tokens=True) if tokenizer else 2**31
        self._threads = ThreadPoolExecutor(1, "tokenize")

    def encode(self, call: Call) -> tuple[int, ...]:
        if isinstance(call.prompt, tuple) and call.endpoint == "completions":
            return call.prompt
        if self._tokenizer is None:
            raise errors.not_ready(self.problem[1] if self.problem else "It has no tokenizer.")
        if call.endpoint == "completions":
            return tuple(self._tokenizer.encode(call.prompt, add_special_tokens=True).ids)
        if self._template is None:
            raise errors.bad_request("This model has no usable chat template. Use /v1/completions.", "messages")
        text = self._template.render(call.messages)
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    async def encode_async(self, call: Call) -> tuple[int, ...]:
        if _size(call) <= _INLINE_CHARACTERS:
            return self.encode(call)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.encode, call)


def _size(call: Call) -> int:
    return len(call.prompt) + sum(len(message["content"]) for message in call.messages)


def load_prompts(model_path: str) -> Prompts:
    """Never raises for a bad model directory: the gateway starts, and says what is wrong with it."""
    directory = Path(model_path)
    file = directory / "tokenizer.json"
    if not file.exists():
        message = f"The model directory has no tokenizer.json ({file}). Export the model with its fast tokenizer."
        return Prompts(None, None, ("TokenizerMissing", message))
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception for a malformed file
        return Prompts(None, None, ("TokenizerMissing", f"tokenizer.json can't be read: {error}"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    try:
        template = find_template(directory)
    except (OSError, ValueError, LookupError, TypeError, jinja2.TemplateError) as error:
        return Prompts(tokenizer, None, chat_problem=f"The chat template can't be read: {error}. Put a valid one there.")
    if template is None:
        message = (
            "The model directory has no chat template (chat_template.jinja or tokenizer_config.json). "
            "Use the instruction-tuned edition of the model for chats."
        )
        return Prompts(tokenizer, None, chat_problem=message)
    return Prompts(tokenizer, template)

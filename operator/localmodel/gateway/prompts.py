"""From messages or text to token ids, with the model's own template and tokenizer.

Long prompts are tokenized on a thread, so that one of them does not hold up everybody's streams.
"""

import asyncio
from array import array
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import jinja2
from tokenizers import Tokenizer

from localmodel.gateway import errors
from localmodel.gateway.chat_encoder import ChatEncoder
from localmodel.gateway.chat_template import ChatTemplate, find_template
from localmodel.gateway.client_texts import BREAK, ClientTexts
from localmodel.gateway.openai_messages import place_of_tools
from localmodel.gateway.openai_request import Call
from localmodel.gateway.time_limit import within
from localmodel.gateway.timers import Limit
from localmodel.gateway.token_ids import token_ids, token_starts
from localmodel.gateway.token_texts import TokenTexts
from localmodel.gateway.tool_calls import FORCED_OPENINGS, ToolFormat

A = TypeVar("A")
R = TypeVar("R")

_INLINE_CHARACTERS = 4096
_PLAIN_MEMBERS = 2
"""Role and content."""


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
        self._client_texts = ClientTexts(tokenizer) if tokenizer else None
        self._chats = ChatEncoder(tokenizer, template.example() if template else "") if tokenizer else None
        self.problem = problem
        self.chat_problem = chat_problem
        self.vocabulary = tokenizer.get_vocab_size(with_added_tokens=True) if tokenizer else 2**31
        self.token_texts = TokenTexts(tokenizer) if tokenizer else None
        self._threads = ThreadPoolExecutor(1, "tokenize")

    @property
    def tool_format(self) -> ToolFormat | None:
        """How the model writes tool calls; None if it can't."""
        return self._template.tool_format if self._template else None

    def encode(self, call: Call) -> tuple[int, ...]:
        if isinstance(call.prompt, tuple) and call.endpoint == "completions":
            return call.prompt
        tokenizer = self._require_tokenizer()
        if isinstance(call.prompt, str):
            return token_ids(tokenizer, call.prompt, special_tokens=True)
        assert self._chats is not None
        return self._chats.encode(self._render(call))

    def encode_inputs(self, inputs: Sequence[str]) -> list[tuple[int, ...]]:
        """Texts to be embedded, each with the special tokens that the model wants around it."""
        encodings = self._require_tokenizer().encode_batch_fast(list(inputs), add_special_tokens=True)
        return [tuple(encoding.ids) for encoding in encodings]

    async def encode_inputs_async(self, inputs: Sequence[str], limit: Limit | None = None) -> list[tuple[int, ...]]:
        if sum(map(len, inputs)) <= _INLINE_CHARACTERS:
            return self.encode_inputs(inputs)
        return await self.in_thread(self.encode_inputs, inputs, limit)

    def token_starts(self, text: str) -> "array[int]":
        """For each token of a client's text alone, the place of the character that it begins in."""
        tokenizer, place = self._require_tokenizer(), 0
        assert self._client_texts is not None
        starts = array("I")
        for part in self._client_texts.cut(text).split(BREAK):
            starts.extend(place + start for start in token_starts(tokenizer, part))
            place += len(part)
        return starts

    async def token_starts_async(self, text: str) -> "array[int]":
        if len(text) <= _INLINE_CHARACTERS:
            return self.token_starts(text)
        return await self.in_thread(self.token_starts, text)

    def prompt_text(self, call: Call) -> str:
        """A completion's prompt as text, to be shown before its answer."""
        if isinstance(call.prompt, str):
            return call.prompt
        return str(self._require_tokenizer().decode(list(call.prompt), skip_special_tokens=False))

    def _require_tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            raise errors.not_ready(self.problem[1] if self.problem else "It has no tokenizer.")
        return self._tokenizer

    def _render(self, call: Call) -> str:
        template = self._template
        if template is None:
            raise errors.bad_request("This model has no usable chat template. Use /v1/completions.", "messages")
        place = "tools" if call.tools else place_of_tools(call.messages)
        if place is not None and template.tool_format is None:
            message = f"This model's chat template knows no tool calls that can be read here. Leave '{place}' out."
            raise errors.unsupported(place, message)
        assert self._client_texts is not None
        messages = self._client_texts.cut(call.messages)
        if call.tools is None:
            return template.render(messages)
        text = template.render(messages, self._client_texts.cut(call.tools.shown))
        return text + FORCED_OPENINGS[template.tool_format or "Hermes"] if call.tools.forced else text

    async def encode_async(self, call: Call, limit: Limit | None = None) -> tuple[int, ...]:
        if _size(call) <= _INLINE_CHARACTERS:
            return self.encode(call)
        return await self.in_thread(self.encode, call, limit)

    async def in_thread(self, work: Callable[[A], R], argument: A, limit: Limit | None = None) -> R:
        """What takes long with a long text. Others may be worked on first: raises the error of `limit` when it is reached."""
        return await within(limit, asyncio.get_running_loop().run_in_executor(self._threads, work, argument))


def _size(call: Call) -> int:
    """Characters that are rendered or tokenized, about: of names, calls and tools, too."""
    tools = len(str(call.tools.shown)) if call.tools is not None else 0
    texts = [len(message["content"]) if len(message) == _PLAIN_MEMBERS else len(str(message)) for message in call.messages]
    return len(call.prompt) + tools + sum(texts)


def load_prompts(model_path: str) -> Prompts:
    """Never raises for a bad model directory: the gateway starts, and says what is wrong with it."""
    directory = Path(model_path)
    file = directory / "tokenizer.json"
    try:
        absent = not file.exists()
    except OSError as error:  # a directory that only others may enter
        return Prompts(None, None, ("TokenizerMissing", f"{file} can't be read: {error.strerror}."))
    if absent:
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

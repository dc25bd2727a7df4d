"""One Triton with the real model for all suites, and gateways in front of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import weights
from suites.live import LiveGateway, LiveTriton

TEMPLATE = """\
{%- if tools %}<|im_start|>system
To call a function, answer <tool_call>{"name": <name>, "arguments": <object>}</tool_call> and nothing else. The functions:
{{ tools | tojson }}<|im_end|>
{% endif %}
{%- for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}
{%- for call in m.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


@pytest.fixture(scope="session")
def model() -> Path:
    return weights.make(weights.default_destination())


@pytest.fixture(scope="session")
def triton(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveTriton]:
    live = LiveTriton(tmp_path_factory.mktemp("triton"), model)
    yield live
    live.stop()


@pytest.fixture(scope="session")
def short_answers(triton: LiveTriton, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveGateway]:
    """A gateway whose answers end soon, because these suites do not look at them: its window is small."""
    names = ["gpt-6-astra", "gpt-3.5-turbo-instruct", "org/smollm2"]
    live = LiveGateway(tmp_path_factory.mktemp("short"), triton, names, context_window=48)
    yield live
    live.stop()


@pytest.fixture(scope="session")
def language_model(triton: LiveTriton, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveGateway]:
    live = LiveGateway(tmp_path_factory.mktemp("long"), triton, ["smollm2"])
    yield live
    live.stop()


@pytest.fixture(scope="session")
def with_tools(triton: LiveTriton, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveGateway]:
    """A gateway with a chat template of its own; the engine sees token ids only."""
    directory = tmp_path_factory.mktemp("with-tools")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (directory / name).symlink_to(model / name)
    (directory / "chat_template.jinja").write_text(TEMPLATE)
    live = LiveGateway(directory, triton, ["smollm2"], model_path=str(directory))
    yield live
    live.stop()


@pytest.fixture(scope="session")
def embedding_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveGateway]:
    directory = tmp_path_factory.mktemp("embeddings")
    model = weights.make(weights.default_destination(weights.MINILM.name), weights.MINILM)
    triton = LiveTriton(directory, model, task="Embedding", context_window=256)
    live = LiveGateway(directory, triton, ["text-embedding-3-small", "minilm"], task="Embedding", context_window=256)
    yield live
    live.stop()
    triton.stop()

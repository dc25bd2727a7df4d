"""LangChain's standard tests (langchain-tests) with langchain-openai: a language model, and the same one taught tools."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from suites.foreign import run_pytest
from suites.live import LiveGateway, LiveTriton

pytestmark = pytest.mark.timeout(900)

SUITE = Path(__file__).parent / "langchain"
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

_TOO_SMALL = "the model is free to call or not, and 135 million parameters don't manage"
_MODEL_CHOICE = "wants a right answer from the model, not only an answer of the right form"


@pytest.fixture(scope="module")
def with_tools(triton: LiveTriton, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveGateway]:
    """A gateway with a chat template of its own; the engine sees token ids only."""
    directory = tmp_path_factory.mktemp("with-tools")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (directory / name).symlink_to(model / name)
    (directory / "chat_template.jinja").write_text(TEMPLATE)
    live = LiveGateway(directory, triton, ["smollm2"], model_path=str(directory))
    yield live
    live.stop()


def test_language_models(language_model: LiveGateway, with_tools: LiveGateway) -> None:
    run_pytest(
        SUITE,
        ["standard_language.py", "-o", "asyncio_mode=auto", "-p", "no:xdist", "-m", "not benchmark"],
        {"SUITES_URL": language_model.url, "SUITES_TOOLS_URL": with_tools.url, "SUITES_MODEL": "smollm2"},
        {
            r".*::TestTools::test_agent_loop": _TOO_SMALL,
            r".*::TestTools::test_tool_calling(_async)?": _MODEL_CHOICE,
        },
        at_least=30,
    )


def test_embeddings(embedding_model: LiveGateway) -> None:
    run_pytest(
        SUITE,
        ["standard_embeddings.py", "-o", "asyncio_mode=auto", "-p", "no:xdist"],
        {"SUITES_URL": embedding_model.url, "SUITES_MODEL": "minilm"},
        {},
        at_least=4,
    )

"""LangChain's standard tests (langchain-tests) with langchain-openai: a language model, and the same one taught tools."""

import shutil
from pathlib import Path

import pytest

from suites.foreign import run_pytest
from suites.live import LiveGateway

pytestmark = pytest.mark.timeout(1500)

SUITE = Path(__file__).parent / "langchain"
_OPTIONS = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_test_loop_scope=session", "-p", "no:xdist")
"""One event loop for all tests: langchain-openai keeps its connections from one test to the next."""
_OLD_PYDANTIC = "for a schema of Pydantic 1 LangChain calls functions instead, which this template does not know"
_NEVER_ENDS = "texts without a bound: the model repeats itself until the document is cut off"
_TOO_SMALL = "the model is free to call or not, and 135 million parameters don't manage"
_MODEL_CHOICE = "wants a right answer from the model, not only an answer of the right form"


def test_language_models(language_model: LiveGateway, with_tools: LiveGateway, tmp_path: Path) -> None:
    run_pytest(
        _copy(tmp_path),
        ["standard_language.py", *_OPTIONS, "-m", "not benchmark"],
        {"SUITES_URL": language_model.url, "SUITES_TOOLS_URL": with_tools.url, "SUITES_MODEL": "smollm2"},
        {
            r".*::TestTools::test_agent_loop\[.*": _TOO_SMALL,
            r".*::TestTools::test_tool_calling(\[.*|_async)": _MODEL_CHOICE,
            r".*::TestTools::test_unicode_tool_call_integration": _MODEL_CHOICE,
            r".*::TestPlain::test_structured_output_pydantic_2_v1": _OLD_PYDANTIC,
            r".*::TestPlain::test_structured_output(_async)?\[(typeddict|json_schema)\]": _NEVER_ENDS,
        },
        at_least=44,
    )


def test_embeddings(embedding_model: LiveGateway, tmp_path: Path) -> None:
    run_pytest(
        _copy(tmp_path),
        ["standard_embeddings.py", *_OPTIONS],
        {"SUITES_URL": embedding_model.url, "SUITES_MODEL": "minilm"},
        {},
        at_least=4,
    )


def _copy(tmp_path: Path) -> Path:
    """Out of reach of this project's conftest files, which the suites' environment can't import."""
    return Path(shutil.copytree(SUITE, tmp_path / "langchain"))

"""The openai package's own tests, from its source archive, against the live gateway instead of the mock they were made for."""

import shutil
from pathlib import Path

import pytest

from suites.environment import openai_sources
from suites.foreign import run_pytest
from suites.live import LiveGateway

pytestmark = pytest.mark.timeout(1500)

_EVERYTHING = "sends every field at once, audio, web search, moderation and max_tokens 0 among them, which OpenAI refuses too"
_STORED = "stored completions: nothing is stored here"
_KINDS = "(method|raw_response|streaming_response)"
_DELETE = "models are deployed and removed as LocalModel objects, not through this API"


def test_chat_completions_and_models(short_answers: LiveGateway, tmp_path: Path) -> None:
    run_pytest(
        _copy(tmp_path),
        ["tests/api_resources/chat/test_completions.py", "tests/api_resources/test_completions.py",
         "tests/api_resources/test_models.py", "-o", "addopts="],
        {"TEST_API_BASE_URL": f"{short_answers.url}/v1"},
        {
            r".*test_completions\.py::.*test_method_create_with_all_params_overload_\d\[.*": _EVERYTHING,
            rf".*chat/test_completions\.py::.*test_{_KINDS}_(retrieve|update|list|delete|list_with_all_params)\[.*": _STORED,
            rf".*test_models\.py::.*test_{_KINDS}_delete\[.*": _DELETE,
        },
        at_least=110,
    )  # fmt: skip


def test_embeddings(embedding_model: LiveGateway, tmp_path: Path) -> None:
    run_pytest(
        _copy(tmp_path),
        ["tests/api_resources/test_embeddings.py", "-o", "addopts="],
        {"TEST_API_BASE_URL": f"{embedding_model.url}/v1"},
        {
            r".*test_method_create_with_all_params\[.*": "asks for one dimension; this model's vectors can't be shortened",
            r".*\[(strict|aiohttp)\]": "asks for Base64 and then takes only numbers; OpenAI's server would fail too",
        },
        at_least=6,
    )


def _copy(tmp_path: Path) -> Path:
    """The tests alone: beside the package's sources they would test those, and write there."""
    shutil.copytree(openai_sources() / "tests", tmp_path / "openai" / "tests")
    shutil.copy(openai_sources() / "pyproject.toml", tmp_path / "openai")
    return tmp_path / "openai"

"""docs/gateway.md names every field that is taken, and those without effect are exactly those it lists."""

import re
from pathlib import Path

from localmodel.gateway.openai_embeddings import KNOWN_OF_EMBEDDINGS
from localmodel.gateway.openai_fields import NO_EFFECT
from localmodel.gateway.openai_request import KNOWN

DOCS = Path(__file__).parents[3] / "docs" / "gateway.md"


def section(title: str) -> str:
    found = re.search(rf"^### {title}\n(.*?)(?=^##|\Z)", DOCS.read_text(), re.M | re.S)
    assert found, title
    return found[1]


def first_cells(text: str) -> set[str]:
    """The names in the first column of a table."""
    return {name for line in text.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line.split("|")[1])}


def test_every_field_has_a_row_and_every_row_is_a_field() -> None:
    assert first_cells(section("Chats and completions")) - {"parallel_tool_calls"} == KNOWN["chat"] | KNOWN["completions"]
    assert first_cells(section("Embeddings")) == KNOWN_OF_EMBEDDINGS - {"model"}


def test_fields_without_effect_are_listed() -> None:
    listed = section("Without effect").split("So are values")[0]
    assert set(re.findall(r"`(\w+)`", listed)) == set(NO_EFFECT)

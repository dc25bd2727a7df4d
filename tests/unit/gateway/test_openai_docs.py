"""docs/gateway.md names every field that is taken, every error and every outcome, and lists no other."""

import re
from pathlib import Path
from typing import get_args

from localmodel.api.engine_failure import EngineFailure, EngineFailureCode
from localmodel.api.gateway import Outcome
from localmodel.gateway import errors
from localmodel.gateway.openai_embeddings import KNOWN_OF_EMBEDDINGS
from localmodel.gateway.openai_fields import NO_EFFECT
from localmodel.gateway.openai_request import KNOWN

DOCS = Path(__file__).parents[3] / "docs" / "gateway.md"


def section(title: str) -> str:
    found = re.search(rf"^###? {title}\n(.*?)(?=^##|\Z)", DOCS.read_text(), re.M | re.S)
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


def test_every_outcome_has_a_row() -> None:
    assert first_cells(section("Outcomes")) == set(get_args(Outcome))


MADE = re.compile(r'(?:ApiError\(\d+, |_unavailable\(|_limited\(|code=|bad_request\(\w+, \w+, )"([a-z_]+)"')


def test_every_error_code_is_in_the_table() -> None:
    package = Path(errors.__file__).parent
    made = {code for file in package.glob("*.py") for code in MADE.findall(file.read_text())} | set(errors._TIMEOUTS)
    made |= {"request_too_large"}  # its status is its caller's
    made |= {str(errors.engine_failed(EngineFailure(code, "x")).code) for code in EngineFailureCode}
    table = [line for line in section("Errors").splitlines() if re.match(r"\| [0-9]", line)]
    listed = {code for line in table for code in re.findall(r"`(\w+)`", line.split("|")[2])}
    assert listed == made and len(made) > 25

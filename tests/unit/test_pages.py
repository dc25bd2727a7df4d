"""Pages: links between them lead somewhere, and no two decisions have the same number."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
LINK = re.compile(r"\]\(([^)#:\s]+)(#[^)\s]+)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, heading in LINK.findall(page.read_text()):
        found = page.parent / target
        assert found.exists(), target
        if heading and found.suffix == ".md":
            assert heading in {_anchor(line) for line in found.read_text().splitlines() if line.startswith("#")}, target + heading


def _anchor(heading: str) -> str:
    words = re.sub(r"[^\w\- ]", "", heading.lstrip("#").strip().lower())
    return "#" + words.replace(" ", "-")


def test_every_decision_has_its_own_number() -> None:
    files = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    numbers = [file.name[:4] for file in files]
    assert [file.read_text()[2:6] for file in files] == numbers and len(set(numbers)) == len(numbers) > 30

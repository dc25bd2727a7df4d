"""What docs/install.md tells people to write is what the chart and the resource accept, and what it quotes is what is said."""

import re

import pytest
import yaml

from chart.conftest import CHART, RELEASE, ROOT

TEXT = (ROOT / "docs" / "install.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
VALUES = [block for block in BLOCKS if "apiVersion" not in block]


@pytest.mark.parametrize("block", VALUES, ids=range(len(VALUES)))
def test_values_are_accepted(block, helm):
    assert helm.template(yaml.safe_load(block))


def test_there_is_something_to_check():
    assert len(VALUES) >= 3
    assert len(BLOCKS) > len(VALUES)


def test_the_refusal_is_quoted_word_for_word(helm):
    result = helm.run("template", RELEASE, str(CHART), "--set", "config.resyncSecond=60")
    for line in result.stderr.splitlines()[1:3]:
        assert line in TEXT


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / "docs" / target).exists(), target

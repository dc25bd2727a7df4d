"""`localmodel key create`: a key that the gateway takes, shown once, stored as a hash; and what `run` wants of it."""

import json
import re
from pathlib import Path

import pytest
import yaml

from localmodel.api.keys import format_hash
from localmodel.api.spec import LocalModelSpec
from localmodel.cli.__main__ import main
from localmodel.cli.key import KeyOptions, create_key
from localmodel.cli.problems import Problem
from localmodel.gateway.keys import parse_keys


def key_in(text: str) -> str:
    (key,) = re.findall(r"\blm-\S+", text)
    return str(key)


def test_the_key_is_random_and_only_its_hash_is_to_be_stored(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "create", "team-a", "--secret", "keys", "-n", "llm"]) == 0
    shown = capsys.readouterr().out
    key = key_in(shown)
    assert len(key) == 46 and key != key_in(create_key(KeyOptions("team-a")))
    stored = format_hash(key)
    assert f"kubectl create secret generic keys -n llm --from-literal=team-a={stored}" in shown
    patch = json.loads(re.findall(r"kubectl patch secret keys -n llm -p '(.*)'", shown)[0])
    assert patch == {"stringData": {"team-a": stored}}
    assert parse_keys({"team-a": patch["stringData"]["team-a"].encode()}).find(key) == "team-a"
    assert shown.count(key) == 1 and "limits" not in shown


def test_limits_are_an_item_that_the_resource_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "create", "a", "--rpm", "60", "--tpm", "2000", "--max-concurrent", "2", "--model", "m"]) == 0
    (item,) = yaml.safe_load(re.findall(r"  - \{.*\}", capsys.readouterr().out)[0])
    assert item == {"key": "a", "rpm": 60, "tpm": 2000, "maxConcurrent": 2, "models": ["m"]}
    gateway = {"auth": {"mode": "APIKey", "secretRef": {"name": "keys"}}, "limits": [item]}
    LocalModelSpec.model_validate({"model": {"source": {"hostPath": {"path": "/m"}}}, "gateway": gateway})


def test_into_a_directory_older_keys_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    into = tmp_path / "keys"
    shown = []
    for _ in range(2):
        assert main(["key", "create", "team-a", "--into", str(into)]) == 0
        shown.append(capsys.readouterr().out)
    ring = parse_keys({"team-a": (into / "team-a").read_bytes()})
    assert [ring.find(key_in(text)) for text in shown] == ["team-a", "team-a"] and not ring.problems
    assert "keys that it held before stay good" in shown[1] and "keys that it held" not in shown[0]
    assert key_in(shown[0]) not in (into / "team-a").read_text()


@pytest.mark.parametrize("name", ["", "a b", "..data", ".x", "a/b", "x" * 64, "ä"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(Problem, match="no name of a key"):
        create_key(KeyOptions(name))


def test_numbers_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["key", "create", "a", "--rpm", "0"])
    assert "not a whole number above 0" in capsys.readouterr().err

"""One file, the environment over it, and no typo without a word."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from localmodel.controller.settings import OperatorSettings, load_settings

IMAGES = {"images": {"triton": "t:1", "gateway": "g:1"}}


def write(tmp_path: Path, **document: object) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump({**IMAGES, **document}))
    return path


def test_the_file_and_the_environment_over_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, resyncSeconds=60, lease={"durationSeconds": 15, "renewDeadlineSeconds": 10})
    monkeypatch.setenv("LOCALMODEL_OPERATOR_NAMESPACE", "ops")
    monkeypatch.setenv("LOCALMODEL_OPERATOR_LEASE__RETRY_SECONDS", "2")
    monkeypatch.setenv("LOCALMODEL_OPERATOR_IMAGES__TRITON", "t:2")
    settings = load_settings(path)
    assert (settings.resync_seconds, settings.namespace, settings.images.triton, settings.images.gateway) == (
        60,
        "ops",
        "t:2",
        "g:1",
    )
    assert (settings.lease.duration_seconds, settings.lease.retry_seconds) == (15, 2)
    assert settings.options().operator_namespace == "ops"


def test_a_variable_without_the_prefix_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NAMESPACE": "theirs", "IDENTITY": "theirs", "RESYNCSECONDS": "1", "LEASE": "{}"}.items():
        monkeypatch.setenv(name, value)
    settings = load_settings(write(tmp_path))
    assert (settings.namespace, settings.identity, settings.resync_seconds) == ("default", "", 600)


@pytest.mark.parametrize(
    "document",
    [
        {"resyncSecond": 1},
        {"lease": {"duration": 1}},
        {"engine": {"cpuLimit": "lots"}},
        {"lease": {"retrySeconds": 3}},
        {"watchNamespaces": ["team-*"]},
        {"gateway": {"memoryRequest": "2Gi"}},
        {"gateway": {"cpuLimit": "50m"}},
        {"networkPolicy": {"monitoringPeers": [{}]}},
    ],
)
def test_what_would_make_every_model_fail_is_an_error(tmp_path: Path, document: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        load_settings(write(tmp_path, **document))


def test_the_schema_for_the_chart_is_closed_and_camel_case() -> None:
    schema = OperatorSettings.model_json_schema()
    assert schema["additionalProperties"] is False and schema["required"] == ["images"]
    assert all(
        d.get("additionalProperties") is False
        for name, d in schema["$defs"].items()
        if "LabelSelector" not in name and name not in ("Peer", "IPBlock")
    )
    assert not any("_" in name for name in schema["properties"])

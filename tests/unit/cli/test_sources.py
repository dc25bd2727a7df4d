"""From a claim or a hostPath to a directory of this machine."""

from pathlib import Path

import pytest

from localmodel.api.localmodel import LocalModel, parse_localmodel
from localmodel.cli.problems import Problem
from localmodel.cli.sources import find_model_directory, parse_claims


def model_with(source: dict) -> LocalModel:
    model = parse_localmodel({"metadata": {"name": "m"}, "spec": {"model": {"source": source}}})
    assert isinstance(model, LocalModel), model
    return model


def test_default_claim_is_in_the_cache():
    assert parse_claims([], {"LOCALMODEL_CACHE": "/c"}) == {"models": Path("/c/models")}
    assert parse_claims([], {})["models"] == Path.home() / ".cache/localmodel/models"


def test_claims_are_added_and_replaced(tmp_path):
    claims = parse_claims([f"models={tmp_path}/a", f"other={tmp_path}/b=c"], {})
    assert claims == {"models": tmp_path / "a", "other": tmp_path / "b=c"}


@pytest.mark.parametrize("value", ["models", "=dir", "models="])
def test_malformed_claim(value):
    with pytest.raises(Problem, match="is not NAME=DIR"):
        parse_claims([value], {})


def test_claim_and_path_make_the_directory(tmp_path):
    (tmp_path / "qwen").mkdir()
    model = model_with({"pvc": {"claimName": "models", "path": "qwen"}})
    assert find_model_directory(model, {"models": tmp_path}) == tmp_path / "qwen"


def test_absent_path_is_the_root_of_the_volume(tmp_path):
    assert find_model_directory(model_with({"pvc": {"claimName": "m"}}), {"m": tmp_path}) == tmp_path


def test_host_path_is_used_as_it_is(tmp_path):
    assert find_model_directory(model_with({"hostPath": {"path": str(tmp_path)}}), {}) == tmp_path


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({}, "exactly one"),
        ({"pvc": {"claimName": "models"}, "hostPath": {"path": "/a"}}, "exactly one"),
        ({"pvc": {"claimName": "other"}}, "add --claim other=DIR"),
        ({"pvc": {"claimName": "models", "path": "../a"}}, "without '..'"),
        ({"pvc": {"claimName": "models", "path": "/a"}}, "relative"),
        ({"hostPath": {"path": "a"}}, "absolute"),
        ({"pvc": {"claimName": "models", "path": "absent"}}, "absent does not exist (claim models is "),
    ],
)
def test_each_mistake_has_its_sentence(tmp_path, source, said):
    with pytest.raises(Problem) as problem:
        find_model_directory(model_with(source), {"models": tmp_path})
    assert said in str(problem.value)

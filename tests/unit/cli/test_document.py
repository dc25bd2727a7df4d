"""The YAML file of a user: what is taken, and the sentence for each mistake."""

from pathlib import Path

import pytest

from localmodel.cli.document import read_localmodel
from localmodel.cli.problems import Problem

GOOD = """
apiVersion: localmodel.dev/v1alpha1
kind: LocalModel
metadata: {name: qwen, namespace: llm}
spec:
  model: {source: {pvc: {claimName: models, path: qwen}}}
  gpu: {count: 0}
"""
NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: llm}\n"


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "model.yaml"
    file.write_text(text)
    return file


def test_good_file_is_parsed(tmp_path):
    model, notes = read_localmodel(write(tmp_path, GOOD))
    assert (model.name, model.namespace, model.spec.gpu.count, notes) == ("qwen", "llm", 0, ())


def test_first_localmodel_is_taken_and_the_rest_is_named(tmp_path):
    second = GOOD.replace("name: qwen,", "name: other,")
    model, notes = read_localmodel(write(tmp_path, f"---\n{NAMESPACE}---\n{GOOD}---\n{second}---\n"))
    assert model.name == "qwen"
    assert notes == ("Ignored in the same file: Namespace llm, LocalModel other.",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "found: nothing"),
        (NAMESPACE, "found: Namespace"),
        ("kind: LocalModel\nspec: {a: [}\n", "line 2, column 12"),
        ("just a sentence\n", "not a Kubernetes object"),
        (GOOD + "  model: {version: 2026-13-01}\n", "write quotes around what is no date"),
        (GOOD.replace("v1alpha1", "v1"), "write `apiVersion: localmodel.dev/v1alpha1`"),
        (GOOD.replace("name: qwen,", ""), "metadata.name is missing"),
        (GOOD.replace("name: qwen,", "name: Qwen.7b,"), "not a name"),
        (GOOD.split("spec:")[0], "spec is missing"),
        (GOOD + "  maxBatchsize: 4\n", "unknown field spec.maxBatchsize"),
        (GOOD.replace("claimName:", "claim:"), "unknown field spec.model.source.pvc.claim"),
        (GOOD + "  maxBatchSize: many\n", "spec.maxBatchSize: "),
        (GOOD + "  contextWindow: 12\n", "spec.contextWindow: "),
        (GOOD + "  placement: {tolerations: [{kee: a}]}\n", "unknown field spec.placement.tolerations.kee"),
    ],
)
def test_each_mistake_has_its_sentence(tmp_path, text, said):
    with pytest.raises(Problem) as problem:
        read_localmodel(write(tmp_path, text))
    assert said in str(problem.value)
    assert problem.value.exit_code == 2


def test_free_form_maps_have_no_unknown_fields(tmp_path):
    free = "  placement: {nodeSelector: {disk: ssd}}\n  security: {allowFrom: [{namespaceSelector: {}}]}\n"
    model, _ = read_localmodel(write(tmp_path, GOOD + free))
    assert model.spec.placement.node_selector == {"disk": "ssd"}


def test_missing_and_unreadable_files(tmp_path):
    with pytest.raises(Problem, match="There is no file"):
        read_localmodel(tmp_path / "absent.yaml")
    with pytest.raises(Problem, match="can't be read"):
        read_localmodel(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Problem, match="not UTF-8"):
        read_localmodel(tmp_path / "binary")

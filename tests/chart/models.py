"""What the operator makes of the smallest LocalModel, for tests that need its real pods and other children."""

from typing import Any

from localmodel.api.localmodel import LocalModel, parse_localmodel
from localmodel.core.observe import Observed
from localmodel.core.options import Images, Options
from localmodel.core.plan import plan

NAMESPACE = "llm"
BODY = {
    "apiVersion": "localmodel.dev/v1alpha1",
    "kind": "LocalModel",
    "metadata": {"name": "qwen", "namespace": NAMESPACE},
    "spec": {"model": {"source": {"pvc": {"claimName": "models"}}}},
}


def build_children() -> list[dict[str, Any]]:
    metadata = {**BODY["metadata"], "uid": "00000000-0000-4000-8000-000000000000", "generation": 1}
    model = parse_localmodel({**BODY, "metadata": metadata})
    assert isinstance(model, LocalModel)
    options = Options(images=Images(triton="triton", gateway="gateway"), operator_namespace="localmodel-system")
    return list(plan(model, options, Observed(claim="Found")).apply)


def build_pod() -> dict[str, Any]:
    """A pod as the Deployment's controller would make it."""
    (template,) = (child["spec"]["template"] for child in build_children() if child["kind"] == "Deployment")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": "qwen-0", "namespace": NAMESPACE},
        "spec": template["spec"],
    }

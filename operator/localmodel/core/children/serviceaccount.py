"""The pods' ServiceAccount: without rights and without a token, so that a model's pod is nobody to the API server."""

from typing import Any

from localmodel.api.localmodel import LocalModel
from localmodel.core.kinds import SERVICE_ACCOUNT
from localmodel.core.labels import child_metadata
from localmodel.core.names import deployment_name


def build_serviceaccount(model: LocalModel) -> dict[str, Any]:
    return {
        "apiVersion": SERVICE_ACCOUNT.api_version,
        "kind": SERVICE_ACCOUNT.name,
        "metadata": child_metadata(model, deployment_name(model)),
        "automountServiceAccountToken": False,
    }

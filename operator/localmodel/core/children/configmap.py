"""The ConfigMap of one revision. Immutable: a changed setting is a new one, and old pods keep what they started with."""

import json
from typing import Any

from localmodel.api import constants
from localmodel.api.localmodel import LocalModel
from localmodel.core.kinds import CONFIG_MAP
from localmodel.core.labels import child_metadata
from localmodel.core.names import revision_name
from localmodel.core.revision import Revision


def build_configmap(model: LocalModel, revision: Revision) -> dict[str, Any]:
    metadata = child_metadata(model, revision_name(model, revision.name))
    template = json.dumps(revision.template, sort_keys=True, separators=(",", ":"))
    return {
        "apiVersion": CONFIG_MAP.api_version,
        "kind": CONFIG_MAP.name,
        "metadata": {**metadata, "annotations": {constants.ANNOTATION_SPEC_HASH: revision.spec_hash}},
        "immutable": True,
        "data": {**revision.files, constants.FILE_TEMPLATE_JSON: template},
    }

"""A revision: the files and the pod template that one spec led to, kept together in one immutable ConfigMap.

The record is what lets an upgraded operator, or one with other default images, leave a running model alone: while the
spec is unchanged, the recorded template is what should be, and drift from it is still repaired.
"""

import json
from dataclasses import dataclass
from typing import Any

from localmodel.api import constants
from localmodel.api.localmodel import LocalModel
from localmodel.core.drift import digest
from localmodel.core.names import HASH_LENGTH, revision_name
from localmodel.core.options import Options
from localmodel.core.pod import build_pod_layout, build_pod_template
from localmodel.core.render import render_files
from localmodel.core.sizing import derive_sizing

_NOT_IN_PODS = {"paused", "replicas", "security"}
"""Members of the spec whose change needs no new pod."""


@dataclass(frozen=True)
class Revision:
    name: str
    """The hash that the pods carry."""
    spec_hash: str
    files: dict[str, str]
    template: dict[str, Any]


def hash_spec(model: LocalModel) -> str:
    """Without defaults: a field that a later version adds does not change what was asked."""
    asked = model.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=_NOT_IN_PODS)
    return digest(asked)


def build_revision(model: LocalModel, options: Options) -> Revision:
    sizing = derive_sizing(model, options)
    files = render_files(model, build_pod_layout(model, options, sizing)).as_dict()
    nameless = build_pod_template(model, options, sizing, revision="", config_map="")
    name = digest([nameless, files], HASH_LENGTH)
    template = build_pod_template(model, options, sizing, revision=name, config_map=revision_name(model, name))
    return Revision(name, hash_spec(model), files, template)


def read_revision(config_map: dict[str, Any], name: str) -> Revision | None:
    """The record that a ConfigMap holds; None if it is not a whole one."""
    data = dict(config_map.get("data") or {})
    spec_hash = config_map.get("metadata", {}).get("annotations", {}).get(constants.ANNOTATION_SPEC_HASH)
    try:
        template = json.loads(data.pop(constants.FILE_TEMPLATE_JSON))
    except (KeyError, ValueError):
        return None
    return Revision(name, spec_hash, data, template) if isinstance(template, dict) and isinstance(spec_hash, str) else None

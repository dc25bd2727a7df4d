"""Where a model's files can be. One class per kind of source; what is mounted how is decided in core."""

from typing import Annotated

from pydantic import Field

from localmodel.api.rules import Rule
from localmodel.api.values import ObjectName, SpecModel

RelativePath = Annotated[
    str,
    Field(max_length=1024),
    Rule(
        "!self.startsWith('/') && !self.split('/').exists(p, p == '..')",
        "write a path relative to the volume's root, without '..', such as 'models/qwen-7b'",
    ),
]
AbsolutePath = Annotated[
    str,
    Field(max_length=1024),
    Rule(
        "self.startsWith('/') && !self.split('/').exists(p, p == '..')",
        "write an absolute path without '..', such as '/opt/models/qwen-7b'",
    ),
]


class PVCSource(SpecModel):
    """A PersistentVolumeClaim in the same namespace; mounted read-only. The usual choice."""

    claim_name: ObjectName = Field(description="Name of the PersistentVolumeClaim.")
    path: RelativePath = Field(
        "", description="Directory of the model inside the volume: relative, without `..`. Default: the volume's root."
    )


class HostPathSource(SpecModel):
    """A directory of the node; mounted read-only. Refused by Pod Security in baseline and restricted namespaces."""

    path: AbsolutePath = Field(description="Absolute path of the model's directory on the node, without `..`.")


class ModelSource(SpecModel):
    """Where the model's files are: exactly one of pvc, hostPath. Which one can't be changed later (make a new LocalModel)."""

    pvc: PVCSource | None = None
    host_path: HostPathSource | None = None


OneSource = Annotated[
    ModelSource,
    Rule(
        "[has(self.pvc), has(self.hostPath)].exists_one(x, x)",
        "write exactly one of pvc, hostPath",
    ),
    Rule(
        "has(self.pvc) == has(oldSelf.pvc) && has(self.hostPath) == has(oldSelf.hostPath)",
        "the kind of source can't be changed: make a new LocalModel, and delete this one when the new one is Ready",
    ),
]

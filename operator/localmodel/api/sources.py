"""Where a model's files can be. One class per kind of source; what is mounted how is decided in core."""

from pydantic import ConfigDict, Field

from localmodel.api.values import SpecModel, all_of, cel


class PVCSource(SpecModel):
    """A PersistentVolumeClaim in the same namespace; mounted read-only. The usual choice."""

    claim_name: str = Field(
        min_length=1,
        max_length=253,
        description="Name of the PersistentVolumeClaim.",
        json_schema_extra=cel(
            "!format.dns1123Subdomain().validate(self).hasValue()",
            "write the name of a PersistentVolumeClaim: lower-case letters, digits, '-' and '.', such as 'models'",
        ),
    )
    path: str = Field(
        "",
        max_length=1024,
        description="Directory of the model inside the volume: relative, without `..`. Default: the volume's root.",
        json_schema_extra=cel(
            "!self.startsWith('/') && !self.split('/').exists(p, p == '..')",
            "write a path relative to the volume's root, without '..', such as 'models/qwen-7b'",
        ),
    )


class HostPathSource(SpecModel):
    """A directory of the node; mounted read-only. Refused by Pod Security in baseline and restricted namespaces."""

    path: str = Field(
        min_length=1,
        max_length=1024,
        description="Absolute path of the model's directory on the node, without `..`.",
        json_schema_extra=cel(
            "self.startsWith('/') && !self.split('/').exists(p, p == '..')",
            "write an absolute path without '..', such as '/opt/models/qwen-7b'",
        ),
    )


class ModelSource(SpecModel):
    """Where the model's files are: exactly one of pvc, hostPath. Which one can't be changed later (make a new LocalModel)."""

    model_config = ConfigDict(
        json_schema_extra=all_of(
            cel(
                "[has(self.pvc), has(self.hostPath)].exists_one(x, x)",
                "write exactly one of pvc, hostPath",
            ),
            cel(
                "has(self.pvc) == has(oldSelf.pvc) && has(self.hostPath) == has(oldSelf.hostPath)",
                "the kind of source can't be changed: make a new LocalModel, and delete this one when the new one is Ready",
            ),
        )
    )

    pvc: PVCSource | None = None
    host_path: HostPathSource | None = None

"""Where the model's files are on this machine: a claim of the YAML becomes a directory that the user names.

It only looks whether the directory is there: what is in it, and whether it can be loaded, is for the engine to say.
"""

from collections.abc import Mapping
from pathlib import Path

from localmodel.api.localmodel import LocalModel
from localmodel.cli.problems import Problem

DEFAULT_CLAIM = "models"


def default_models_directory(environ: Mapping[str, str]) -> Path:
    """`$LOCALMODEL_CACHE/models`, or under the user's cache directory."""
    cache = environ.get("LOCALMODEL_CACHE")
    return (Path(cache) if cache else Path.home() / ".cache" / "localmodel") / "models"


def parse_claims(values: list[str], environ: Mapping[str, str]) -> dict[str, Path]:
    """`NAME=DIR` of the command line, over the default for claim `models`. Raises Problem."""
    claims = {DEFAULT_CLAIM: default_models_directory(environ)}
    for value in values:
        name, separator, directory = value.partition("=")
        if not (name and separator and directory):
            raise Problem(f"--claim {value} is not NAME=DIR; write for example --claim {DEFAULT_CLAIM}=/srv/models.")
        claims[name] = Path(directory).expanduser().absolute()
    return claims


def find_model_directory(model: LocalModel, claims: Mapping[str, Path]) -> Path:
    """The directory that a pod would see as its mounted model. Raises Problem if it is not there."""
    source = model.spec.model.source
    if (source.pvc is None) == (source.host_path is None):
        raise Problem("spec.model.source must have exactly one of pvc and hostPath.")
    if source.host_path is not None:
        directory = Path(source.host_path.path)
        origin = "spec.model.source.hostPath.path"
        if not directory.is_absolute() or ".." in directory.parts:
            raise Problem(f"{origin} is {directory}; write an absolute path without '..', such as /opt/models/qwen-7b.")
    else:
        assert source.pvc is not None
        name, inner = source.pvc.claim_name, Path(source.pvc.path)
        if name not in claims:
            raise Problem(f"Claim {name!r} has no directory on this machine; add --claim {name}=DIR.")
        if inner.is_absolute() or ".." in inner.parts:
            raise Problem(f"spec.model.source.pvc.path is {inner}; write a path relative to the volume's root, without '..'.")
        directory = claims[name] / inner
        origin = f"claim {name} is {claims[name]}"
    if not directory.is_dir():
        raise Problem(
            f"The model's directory {directory} does not exist ({origin}); put the model's files there, "
            f"or name another directory with --claim NAME=DIR. `make weights` makes the one of the example."
        )
    return directory

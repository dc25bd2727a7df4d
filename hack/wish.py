"""Which cluster, registry and namespace the caller chose by CONTEXT, REGISTRY and NAMESPACE. For the demo and the e2e tests."""

from collections.abc import Mapping
from typing import NamedTuple

import deploy

EXAMPLE_NAMESPACE = "llm"


class Wish(NamedTuple):
    """What the caller chose. `context` empty: the local cluster."""

    context: str
    registry: str
    namespace: str


def read_wish(environ: Mapping[str, str]) -> Wish:
    context = environ.get("CONTEXT", "")
    registry = environ.get("REGISTRY", "") or ("" if context else deploy.LOCAL_REGISTRY)
    if not registry:
        raise deploy.DeployError("CONTEXT needs REGISTRY=host:port, a registry that the cluster's nodes can pull from")
    return Wish(context, registry, environ.get("NAMESPACE", "") or EXAMPLE_NAMESPACE)

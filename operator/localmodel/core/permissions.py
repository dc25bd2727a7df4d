"""Everything the operator may do to the cluster: the chart's RBAC is made from this table.

The port to the API server refuses what is not here, and a test compares the table with what the audit log saw: a right
that nothing uses is as wrong as one that is missing.
"""

from typing import NamedTuple

from localmodel.api.constants import GROUP, PLURAL


class Permission(NamedTuple):
    api_group: str
    """Empty is the core group."""
    resource: str
    """Plural, with its subresource after a slash."""
    verbs: tuple[str, ...]


_WATCH = ("list", "watch")
_KEEP = (*_WATCH, "get", "create", "patch")
_OWN = (*_KEEP, "delete")

MODEL_PERMISSIONS: tuple[Permission, ...] = (
    Permission(GROUP, PLURAL, _WATCH),
    Permission(GROUP, f"{PLURAL}/status", ("patch",)),
    Permission("apps", "deployments", _KEEP),
    Permission("", "services", _KEEP),
    Permission("", "configmaps", _OWN),
    Permission("", "serviceaccounts", _KEEP),
    Permission("policy", "poddisruptionbudgets", _KEEP),
    Permission("networking.k8s.io", "networkpolicies", _OWN),
    Permission("", "pods", _WATCH),
    Permission("", "persistentvolumeclaims", _WATCH),
    Permission("events.k8s.io", "events", ("create", "patch")),
)
"""In every namespace that is served: a ClusterRole, or one Role per namespace of `watchNamespaces`."""

OPERATOR_PERMISSIONS: tuple[Permission, ...] = (Permission("coordination.k8s.io", "leases", ("get", "create", "update")),)
"""In the operator's own namespace."""


def is_permitted(api_group: str, resource: str, verb: str) -> bool:
    table = (*MODEL_PERMISSIONS, *OPERATOR_PERMISSIONS)
    return any((p.api_group, p.resource) == (api_group, resource) and verb in p.verbs for p in table)

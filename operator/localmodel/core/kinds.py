"""The kinds that the operator reads and writes: one table, so that paths, watches and permissions can't disagree."""

from typing import NamedTuple

from localmodel.api import constants


class Kind(NamedTuple):
    name: str
    group: str
    version: str
    plural: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str, name: str = "") -> str:
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return f"{root}/namespaces/{namespace}/{self.plural}" + (f"/{name}" if name else "")


LOCAL_MODEL = Kind(constants.KIND, constants.GROUP, constants.VERSION, constants.PLURAL)
DEPLOYMENT = Kind("Deployment", "apps", "v1", "deployments")
SERVICE = Kind("Service", "", "v1", "services")
CONFIG_MAP = Kind("ConfigMap", "", "v1", "configmaps")
SERVICE_ACCOUNT = Kind("ServiceAccount", "", "v1", "serviceaccounts")
POD_DISRUPTION_BUDGET = Kind("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets")
NETWORK_POLICY = Kind("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies")
POD = Kind("Pod", "", "v1", "pods")
VOLUME_CLAIM = Kind("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims")

CHILD_KINDS = (SERVICE_ACCOUNT, CONFIG_MAP, NETWORK_POLICY, SERVICE, POD_DISRUPTION_BUDGET, DEPLOYMENT)
"""In the order in which they are applied: the Deployment last, when everything its pods need is there."""
KINDS = {kind.name: kind for kind in (LOCAL_MODEL, *CHILD_KINDS, POD, VOLUME_CLAIM)}

"""The cluster's DNS: CoreDNS runs beside the API server and is reached through the usual kube-dns Service.

A Service without a selector and an EndpointSlice by hand, so that no image and no pod is needed.
"""

from __future__ import annotations

import urllib.request
from typing import Any

from cluster import layout as at
from cluster.api import Api

_LABELS = {"k8s-app": "kube-dns"}
_PORTS = (("dns", "UDP"), ("dns-tcp", "TCP"))


def dns_objects() -> dict[str, dict[str, Any]]:
    """Path in the API -> object."""
    rbac = "rbac.authorization.k8s.io"
    return {
        f"/apis/{rbac}/v1/clusterroles/system:coredns": {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "system:coredns"},
            "rules": [
                {"apiGroups": [""], "resources": ["services", "namespaces"], "verbs": ["list", "watch"]},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
            ],
        },
        f"/apis/{rbac}/v1/clusterrolebindings/system:coredns": {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "system:coredns"},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "system:coredns"},
            "subjects": [{"apiGroup": rbac, "kind": "User", "name": "system:coredns"}],
        },
        "/api/v1/namespaces/kube-system/services/kube-dns": {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": _LABELS},
            "spec": {
                "clusterIP": at.DNS_SERVICE_IP,
                "ports": [
                    {"name": name, "port": 53, "protocol": protocol, "targetPort": at.DNS_PORT} for name, protocol in _PORTS
                ],
            },
        },
        "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/kube-dns": {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kube-dns",
                "namespace": "kube-system",
                "labels": _LABELS | {"kubernetes.io/service-name": "kube-dns"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [at.CONTROL_IP], "conditions": {"ready": True}}],
            "ports": [{"name": name, "port": at.DNS_PORT, "protocol": protocol} for name, protocol in _PORTS],
        },
    }


def create_dns(api: Api) -> None:
    for path, body in dns_objects().items():
        api.apply(path, body)


def dns_is_ready() -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{at.CONTROL_IP}:8181/ready", timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False

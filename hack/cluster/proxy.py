"""kube-proxy: one per node, and one where the host's packets to services arrive.

The latter runs beside the control plane, so that tests reach services from the host whichever node is down.
"""

from __future__ import annotations

import json

from cluster import layout as at
from cluster.control_plane import API_SERVER
from cluster.kubeconfig import write_kubeconfig
from cluster.layout import Layout, Node

FOR_THE_HOST = "host"


def proxy_command(layout: Layout, place: str) -> list[str]:
    return [layout.tool("kube-proxy"), f"--config={layout.config}/kube-proxy-{place}.json"]


def write_proxy(layout: Layout, place: str, node: Node) -> None:
    """`node` is whose Node object it goes by; the host has none and borrows one."""
    kubeconfig = layout.config / "kube-proxy.kubeconfig"
    write_kubeconfig(kubeconfig, API_SERVER, layout.pki, "kube-proxy")
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": node.name,
        "bindAddress": "0.0.0.0",
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "clusterCIDR": at.POD_RANGE,
        "detectLocalMode": "ClusterCIDR",
        "oomScoreAdj": 0,
        "nftables": {"minSyncPeriod": "100ms", "syncPeriod": "30s"},
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
    (layout.config / f"kube-proxy-{place}.json").write_text(json.dumps(config, indent=1))

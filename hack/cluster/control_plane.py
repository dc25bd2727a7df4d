"""Command lines and configuration of etcd, the API server, its controllers, the scheduler and DNS.

Pure but for `write_control_plane`, which writes the files these commands read. Starts nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cluster import layout as at
from cluster.kubeconfig import write_kubeconfig
from cluster.layout import Layout

API_SERVER = f"https://{at.CONTROL_IP}:{at.API_PORT}"
ETCD = "http://127.0.0.1:2379"

AUDIT_POLICY: dict[str, Any] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "nonResourceURLs": ["*"]},
        {"level": "None", "verbs": ["get", "list", "watch"], "userGroups": ["system:serviceaccounts:kube-system"]},
        {"level": "Metadata", "verbs": ["get", "list", "watch"], "userGroups": ["system:serviceaccounts"]},
        {"level": "None", "verbs": ["get", "list", "watch"]},
        {"level": "Metadata"},
    ],
}

COREFILE = f""".:{at.DNS_PORT} {{
    bind {at.CONTROL_IP}
    errors
    ready {at.CONTROL_IP}:8181
    cache 5
    kubernetes {at.CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig KUBECONFIG
        pods insecure
        ttl 5
    }}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


def etcd_command(layout: Layout, data: Path, client_url: str, peer_url: str) -> list[str]:
    return [
        layout.tool("etcd"),
        f"--data-dir={data}",
        f"--listen-client-urls={client_url}",
        f"--advertise-client-urls={client_url}",
        f"--listen-peer-urls={peer_url}",
        f"--initial-advertise-peer-urls={peer_url}",
        f"--initial-cluster=default={peer_url}",
        "--unsafe-no-fsync",
        "--quota-backend-bytes=4294967296",
        "--log-level=warn",
    ]


def apiserver_command(layout: Layout, pki: Path, etcd_url: str, address: str, port: int, folder: Path) -> list[str]:
    """What every API server of ours has in common; `folder` holds audit.json and receives audit.log."""
    return [
        layout.tool("kube-apiserver"),
        f"--etcd-servers={etcd_url}",
        f"--bind-address={address}",
        f"--secure-port={port}",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--client-ca-file={pki}/ca.crt",
        f"--service-cluster-ip-range={at.SERVICE_RANGE}",
        f"--service-account-issuer=https://kubernetes.default.svc.{at.CLUSTER_DOMAIN}",
        f"--service-account-key-file={pki}/sa.pub",
        f"--service-account-signing-key-file={pki}/sa.key",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--profiling=false",
        f"--audit-policy-file={folder}/audit.json",
        f"--audit-log-path={folder}/audit.log",
        "--audit-log-maxsize=1000",
    ]


def control_plane_commands(layout: Layout) -> dict[str, list[str]]:
    """By process name, in the order they start."""
    pki, config = layout.pki, layout.config
    return {
        "etcd": etcd_command(layout, layout.state / "etcd", ETCD, "http://127.0.0.1:2380"),
        "kube-apiserver": [
            *apiserver_command(layout, pki, ETCD, at.CONTROL_IP, at.API_PORT, layout.state),
            f"--advertise-address={at.CONTROL_IP}",
            f"--kubelet-certificate-authority={pki}/ca.crt",
            f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt",
            f"--kubelet-client-key={pki}/apiserver-kubelet.key",
            "--kubelet-preferred-address-types=InternalIP",
            "--enable-aggregator-routing=true",
        ],
        "kube-controller-manager": [
            layout.tool("kube-controller-manager"),
            f"--kubeconfig={config}/kube-controller-manager.kubeconfig",
            f"--root-ca-file={pki}/ca.crt",
            f"--service-account-private-key-file={pki}/sa.key",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            "--node-monitor-period=2s",
            "--node-monitor-grace-period=16s",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            "--profiling=false",
        ],
        "kube-scheduler": [
            layout.tool("kube-scheduler"),
            f"--kubeconfig={config}/kube-scheduler.kubeconfig",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            "--profiling=false",
        ],
        "coredns": [layout.tool("coredns"), "-conf", f"{config}/Corefile"],
    }


def write_control_plane(layout: Layout) -> None:
    layout.config.mkdir(parents=True, exist_ok=True)
    (layout.state / "audit.json").write_text(json.dumps(AUDIT_POLICY, indent=1))
    for name in ("kube-controller-manager", "kube-scheduler", "coredns"):
        write_kubeconfig(layout.config / f"{name}.kubeconfig", API_SERVER, layout.pki, name)
    write_kubeconfig(layout.kubeconfig, API_SERVER, layout.pki, "admin")
    corefile = COREFILE.replace("KUBECONFIG", str(layout.config / "coredns.kubeconfig"))
    (layout.config / "Corefile").write_text(corefile)

"""One node: its mount namespace, containerd, kubelet and kube-proxy, as configuration and command lines.

A node's mounts live in a mount namespace of their own and vanish with its last process, so no crash can
leave one behind. Folders that programs have hard-coded are covered in there, so nodes and host share none.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from cluster import layout as at
from cluster.control_plane import API_SERVER
from cluster.kubeconfig import write_kubeconfig
from cluster.layout import Layout, Node
from cluster.network import netns_path
from cluster.proxy import proxy_command, write_proxy

# Paths that programs have hard-coded -> the node's own folder that covers each of them in its mount namespace.
COVERED = {"/var/lib/cni": "cni", "/var/lib/kubelet": "kubelet"}
CNI_PLUGINS = "/usr/lib/cni"
PAUSE_IMAGE = "localmodel.dev/pause"


def holder_command(layout: Layout, node: Node) -> list[str]:
    """Makes the namespaces, then only keeps them; tells it is ready by a file."""
    folder = layout.node(node)
    lines = ["mount -n --make-rshared /", *(f"mount -n -t tmpfs -o mode=755 tmpfs {path}" for path in ("/run", "/var/log"))]
    lines += [f"mount -n --bind {shlex.quote(str(folder / name))} {path}" for path, name in COVERED.items()]
    lines += [f"touch {shlex.quote(str(holder_ready(layout, node)))}", "exec sleep infinity"]
    enter = ["nsenter", f"--net={netns_path(node.netns)}", "unshare", "--mount", "--propagation", "slave"]
    return [*enter, "sh", "-ec", "\n".join(lines)]


def holder_ready(layout: Layout, node: Node) -> Path:
    return layout.node(node) / "namespaces-ready"


def containerd_command(layout: Layout, node: Node) -> list[str]:
    return [layout.tool("containerd"), "--config", str(layout.node(node) / "containerd.toml")]


def node_commands(layout: Layout, node: Node) -> dict[str, list[str]]:
    """What starts once the API server answers, by process name."""
    folder = layout.node(node)
    return {
        f"kubelet-{node.name}": [
            layout.tool("kubelet"),
            f"--config={folder}/kubelet.json",
            f"--kubeconfig={folder}/kubelet.kubeconfig",
            f"--hostname-override={node.name}",
            f"--node-ip={node.ip}",
        ],
        f"kube-proxy-{node.name}": proxy_command(layout, node.name),
    }


def write_node(layout: Layout, node: Node, pause_version: str) -> None:
    folder = layout.node(node)
    for name in ("cni.d", "pods", *COVERED.values()):
        (folder / name).mkdir(parents=True, exist_ok=True)
    write_kubeconfig(folder / "kubelet.kubeconfig", API_SERVER, layout.pki, node.name)
    (folder / "kubelet.json").write_text(json.dumps(_kubelet_config(layout, node), indent=1))
    write_proxy(layout, node.name, node)
    (folder / "cni.d" / "10-localmodel.conflist").write_text(json.dumps(_cni_config(folder, node), indent=1))
    (folder / "containerd.toml").write_text(_containerd_config(layout, node, pause_version))
    (layout.config / "resolv.conf").write_text(f"nameserver {at.DNS_SERVICE_IP}\n")
    hosts = layout.config / "registries" / at.REGISTRY
    hosts.mkdir(parents=True, exist_ok=True)
    server = f"http://{at.CONTROL_IP}:{at.REGISTRY_PORT}"
    (hosts / "hosts.toml").write_text(f'server = "{server}"\n[host."{server}"]\ncapabilities = ["pull", "resolve"]\n')


def _containerd_config(layout: Layout, node: Node, pause_version: str) -> str:
    folder = layout.node(node)
    return f"""version = 3
root = "{folder}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
address = "{layout.containerd_socket(node)}"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE_IMAGE}:{pause_version}"
[plugins."io.containerd.cri.v1.images".registry]
config_path = "{layout.config}/registries"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{CNI_PLUGINS}"]
conf_dir = "{folder}/cni.d"
use_internal_loopback = true
"""


def _cni_config(folder: Path, node: Node) -> dict[str, Any]:
    """Every pod is routed, none bridged: each packet passes the node's forward hook, where tests can count it."""
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": node.pod_range}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(folder / "cni"),
    }
    routed = {"type": "ptp", "ipam": ipam}
    return {
        "cniVersion": "1.0.0",
        "name": "localmodel",
        "plugins": [routed, {"type": "portmap", "capabilities": {"portMappings": True}}],
    }


def _kubelet_config(layout: Layout, node: Node) -> dict[str, Any]:
    folder = layout.node(node)
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.ip,
        "healthzBindAddress": "127.0.0.1",
        "readOnlyPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(layout.pki / f"{node.name}.crt"),
        "tlsPrivateKeyFile": str(layout.pki / f"{node.name}.key"),
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket(node)}",
        "podLogsDir": str(folder / "pods"),
        "resolvConf": str(layout.config / "resolv.conf"),
        "clusterDNS": [at.DNS_SERVICE_IP],
        "clusterDomain": at.CLUSTER_DOMAIN,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "nodeStatusUpdateFrequency": "4s",
        "nodeStatusReportFrequency": "10s",
        "serializeImagePulls": False,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
            "imagefs.inodesFree": "1%",
        },
    }

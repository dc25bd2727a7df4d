"""Makes a new cluster, from certificates to a ready DNS, on a machine that has none.

Writes everything into the record before or as it is made. Must not look at what an earlier cluster left:
that is the teardown's work.
"""

from __future__ import annotations

import platform
import subprocess
from functools import partial
from pathlib import Path

from cluster import layout as at
from cluster import node as nodes
from cluster import proxy, registry
from cluster.api import Api, wait_until
from cluster.certificates import make_authority, sign
from cluster.cgroups import create_group
from cluster.control_plane import API_SERVER, control_plane_commands, write_control_plane
from cluster.daemons import DAEMONS_GROUP, log_path, start_daemon
from cluster.dns import create_dns, dns_is_ready
from cluster.images import single_binary_archive
from cluster.layout import NODES, Layout, Node
from cluster.network import NETNS_FOLDER, create_network, netns_path
from cluster.record import Record
from cluster.report import say

# What a kubelet sets on the whole machine; put back by `down`.
_SYSCTLS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)


def create_cluster(layout: Layout, record: Record, versions: dict[str, str]) -> None:
    say("making certificates, namespaces and links")
    record.sysctls = {name: Path("/proc/sys", name).read_text().strip() for name in _SYSCTLS}
    record.cgroup = at.CGROUP
    record.folders = [path for path in (NETNS_FOLDER, *nodes.COVERED) if not Path(path).exists()]
    record.facts = _facts(layout)
    record.save()
    for path in nodes.COVERED:
        Path(path).mkdir(parents=True, exist_ok=True)
    for group in (DAEMONS_GROUP, *(node.cgroup for node in NODES)):
        create_group(group)
    _make_certificates(layout)
    write_control_plane(layout)
    registry.write_registries(layout)
    proxy.write_proxy(layout, proxy.FOR_THE_HOST, NODES[0])
    for node in NODES:
        nodes.write_node(layout, node, versions["PAUSE_VERSION"])
    create_network(record)

    say("starting the control plane and the nodes")
    control = ["nsenter", f"--net={netns_path(at.CONTROL_NETNS)}"]
    commands = control_plane_commands(layout)
    for name in ("etcd", "kube-apiserver"):
        start_daemon(layout, record, name, commands.pop(name), control)
    for name, enter in ((registry.PROCESS, []), (registry.NODES_PROCESS, control)):
        start_daemon(layout, record, name, registry.registry_command(layout, name), enter)
    for node in NODES:
        _start_runtime(layout, record, node)
    for node in NODES:
        _import_pause(layout, node, versions["PAUSE_VERSION"])
    api = Api(API_SERVER, layout.pki, "admin")
    wait_until(f"the API server, see {log_path(layout, 'kube-apiserver')}", api.is_ready, seconds=60)
    for name, command in commands.items():
        start_daemon(layout, record, name, command, control)
    for node in NODES:
        for name, command in nodes.node_commands(layout, node).items():
            start_daemon(layout, record, name, command, _enter(record, node))
    name = f"kube-proxy-{proxy.FOR_THE_HOST}"
    start_daemon(layout, record, name, proxy.proxy_command(layout, proxy.FOR_THE_HOST), control)
    create_dns(api)
    for node in NODES:
        what = f"{node.name}, see {log_path(layout, f'kubelet-{node.name}')}"
        wait_until(what, partial(api.node_is_ready, node.name), seconds=90)
    wait_until(f"DNS, see {log_path(layout, 'coredns')}", dns_is_ready, seconds=30)
    record.complete = True
    record.save()


def _facts(layout: Layout) -> dict[str, object]:
    """What tests need to know of the cluster."""
    described = {
        node.name: {"ip": node.ip, "netns": node.netns, "podRange": node.pod_range, "bridgePort": node.name}
        | {"containerd": str(layout.containerd_socket(node)), "cgroup": node.cgroup}
        for node in NODES
    }
    return {
        "nodes": described,
        "registry": at.REGISTRY,
        "apiServer": API_SERVER,
        "controlNetns": at.CONTROL_NETNS,
        "kubeconfig": str(layout.kubeconfig),
        "auditLog": str(layout.audit_log),
        "serviceRange": at.SERVICE_RANGE,
        "podRange": at.POD_RANGE,
    }


def _make_certificates(layout: Layout) -> None:
    pki = layout.pki
    make_authority(pki)
    service = [f"kubernetes.default.svc.{at.CLUSTER_DOMAIN}", "kubernetes.default.svc", "kubernetes.default"]
    hosts = [at.CONTROL_IP, "127.0.0.1", at.KUBERNETES_SERVICE_IP, "kubernetes", *service]
    sign(pki, "apiserver", "kube-apiserver", hosts=hosts)
    sign(pki, "apiserver-kubelet", "kube-apiserver-kubelet-client", "system:masters")
    sign(pki, "admin", "localmodel-admin", "system:masters")
    for name in ("kube-controller-manager", "kube-scheduler", "kube-proxy", "coredns"):
        sign(pki, name, f"system:{name}")
    for node in NODES:
        sign(pki, node.name, f"system:node:{node.name}", "system:nodes", hosts=[node.ip, node.name])


def _start_runtime(layout: Layout, record: Record, node: Node) -> None:
    """The holder of the node's namespaces, then containerd within them."""
    holder = f"namespaces-{node.name}"
    start_daemon(layout, record, holder, nodes.holder_command(layout, node), [])
    wait_until(f"{holder}, see {log_path(layout, holder)}", nodes.holder_ready(layout, node).exists, 10, every=0.01)
    name = f"containerd-{node.name}"
    start_daemon(layout, record, name, nodes.containerd_command(layout, node), _enter(record, node))


def _import_pause(layout: Layout, node: Node, version: str) -> None:
    socket = layout.containerd_socket(node)
    ctr = [layout.tool("ctr"), "--address", str(socket), "--namespace", "k8s.io"]

    def answers() -> bool:
        return socket.exists() and subprocess.run([*ctr, "version"], capture_output=True).returncode == 0

    wait_until(f"containerd, see {log_path(layout, f'containerd-{node.name}')}", answers, seconds=30)
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    image = single_binary_archive(Path(layout.tool("pause")), f"{nodes.PAUSE_IMAGE}:{version}", architecture)
    done = subprocess.run([*ctr, "images", "import", "-"], input=image, capture_output=True)
    if done.returncode:
        raise SystemExit(f"importing the pause image failed: {done.stderr.decode().strip()}")


def _enter(record: Record, node: Node) -> list[str]:
    return ["nsenter", "--target", str(record.processes[f"namespaces-{node.name}"].pid), "--net", "--mount"]

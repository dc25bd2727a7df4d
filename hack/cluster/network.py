"""The nodes' network: one namespace per node, one for the control plane with the bridge, one link to the host.

The host gets a single link and three routes; addresses, bridge and packet rules stay in the namespaces.
Must not change the host's forwarding, firewall or resolver.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from cluster import layout as at
from cluster.layout import NODES, Node
from cluster.record import Record

NETNS_FOLDER = "/run/netns"
# Redirects would use up the ICMP rate limit, and "unreachable" answers would come late. Frames on the bridge between
# two nodes are none of the packet rules' business.
_FORWARDING = """
cd /proc/sys/net
echo 1 > ipv4/ip_forward
for each in all default; do echo 0 > ipv4/conf/$each/send_redirects; done
[ ! -e bridge ] || echo 0 > bridge/bridge-nf-call-iptables
"""


def all_netns() -> list[str]:
    return [at.CONTROL_NETNS, *(node.netns for node in NODES)]


def netns_path(name: str) -> str:
    return f"{NETNS_FOLDER}/{name}"


def names_in_use() -> list[str]:
    """Which of our names exist on this machine."""
    links = [at.HOST_LINK] if Path("/sys/class/net", at.HOST_LINK).exists() else []
    return [name for name in all_netns() if Path(NETNS_FOLDER, name).exists()] + links


def create_network(record: Record) -> None:
    record.netns = all_netns()
    record.links = [at.HOST_LINK]
    record.save()
    for name in record.netns:
        _run("ip", "netns", "add", name)
    _batch(["-n", at.CONTROL_NETNS], _control_links())
    _batch([], [f"link set {at.HOST_LINK} up", f"address add {at.HOST_IP}/{at.PREFIX_LENGTH} dev {at.HOST_LINK}"])
    for node in NODES:
        _batch(["-n", node.netns], _node_links(node))
    pod_routes = [_pod_route(node) for node in NODES]
    _batch(["-n", at.CONTROL_NETNS], [*pod_routes, f"route add {at.SERVICE_RANGE} dev br0"])
    _batch([], [*pod_routes, f"route add {at.SERVICE_RANGE} via {at.CONTROL_IP}"])
    for name in record.netns:
        _run("nsenter", f"--net={netns_path(name)}", "sh", "-ec", _FORWARDING)


def remove_network(record: Record) -> None:
    for link in record.links:
        if Path("/sys/class/net", link).exists():
            _run("ip", "link", "delete", link)
    for name in record.netns:
        if Path(NETNS_FOLDER, name).exists():
            _run("ip", "netns", "delete", name)


def _control_links() -> list[str]:
    lines = [
        "link set lo up",
        "link add br0 type bridge",
        f"address add {at.CONTROL_IP}/{at.PREFIX_LENGTH} dev br0",
        "link set br0 up",
        f"link add host type veth peer name {at.HOST_LINK} netns 1",
        "link set host master br0 up",
    ]
    for node in NODES:
        lines += [
            f"link add {node.name} type veth peer name eth0 netns {node.netns}",
            f"link set {node.name} master br0 up",
        ]
    return lines


def _node_links(node: Node) -> list[str]:
    """Local processes need some route to a service address before kube-proxy can rewrite it.

    Nothing leads out of the cluster: whoever tries is told so at once instead of waiting.
    """
    return [
        "link set lo up",
        f"address add {node.ip}/{at.PREFIX_LENGTH} dev eth0",
        "link set eth0 up",
        f"route add {at.SERVICE_RANGE} dev eth0 src {node.ip}",
        "route add unreachable default",
        *(_pod_route(other) for other in NODES if other != node),
    ]


def _pod_route(node: Node) -> str:
    return f"route add {node.pod_range} via {node.ip}"


def _batch(options: list[str], lines: list[str]) -> None:
    _run("ip", *options, "-batch", "-", text="".join(f"{line}\n" for line in lines))


def _run(*command: str, text: str = "") -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr.strip()}")

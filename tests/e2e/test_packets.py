"""Nothing leaves: every first packet of every model pod of this session, on both nodes. The last file, on purpose."""

from e2e.local import LocalCluster
from e2e.world import World


def test_model_pods_reached_nothing_but_dns(world: World, local: LocalCluster, chat: str) -> None:
    """With a negative control: one connection that strays is seen."""
    pod = world.pods(chat)[0]
    strays = [flow for flow in local.flows() if flow[0] in world.pod_ips and flow[3] != 53]
    assert strays == []
    connect = "import socket; one = socket.socket(); one.settimeout(1); one.connect_ex(('10.97.1.250', 9))"
    world.kubectl("exec", pod["metadata"]["name"], "-c", "gateway", "--", "python3", "-c", connect)
    seen = {flow[:2] for flow in local.flows()}
    assert (pod["status"]["podIP"], "10.97.1.250") in seen

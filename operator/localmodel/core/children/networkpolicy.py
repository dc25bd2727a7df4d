"""The NetworkPolicy: who may call the model, who may ask its admin port, and that its pods reach nothing but DNS."""

from collections.abc import Iterable
from typing import Any

from localmodel.api import constants
from localmodel.api.localmodel import LocalModel
from localmodel.api.peers import Peer
from localmodel.core.kinds import NETWORK_POLICY
from localmodel.core.labels import child_metadata, selector_labels
from localmodel.core.names import deployment_name
from localmodel.core.options import Options


def build_networkpolicy(model: LocalModel, options: Options) -> dict[str, Any]:
    callers = _dump(model.spec.security.allow_from) or [{"podSelector": {}}]
    ingress = [{"from": callers, "ports": [_port("TCP", constants.SERVING_PORT)]}]
    if watchers := _admin_peers(options):
        ingress.append({"from": watchers, "ports": [_port("TCP", constants.ADMIN_PORT)]})
    return {
        "apiVersion": NETWORK_POLICY.api_version,
        "kind": NETWORK_POLICY.name,
        "metadata": child_metadata(model, deployment_name(model)),
        "spec": {
            "podSelector": {"matchLabels": selector_labels(model)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": [{"ports": [_port("UDP", 53), _port("TCP", 53)]}],
        },
    }


def _admin_peers(options: Options) -> list[dict[str, Any]]:
    """A rule without peers would admit everybody: an empty list means no rule."""
    peers = _dump(options.network_policy.monitoring_peers)
    if options.operator_namespace:
        labels = {"kubernetes.io/metadata.name": options.operator_namespace}
        peers.insert(0, {"namespaceSelector": {"matchLabels": labels}})
    return peers


def _dump(peers: Iterable[Peer]) -> list[dict[str, Any]]:
    return [peer.model_dump(mode="json", by_alias=True, exclude_none=True) for peer in peers]


def _port(protocol: str, port: int) -> dict[str, Any]:
    return {"protocol": protocol, "port": port}

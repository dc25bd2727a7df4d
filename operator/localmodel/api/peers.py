"""Who may call the model: the peers of a NetworkPolicy, modelled with limits so that a bad one is refused when it is written.

Only the shape; the policy itself is built in core. What the user left out stays None, so that a dump is exactly what was
written: `peer.model_dump(by_alias=True, exclude_none=True)`.
"""

import ipaddress
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from localmodel.api.rules import Rule
from localmodel.api.values import LabelKey, Labels, LabelValue, SpecModel


def _is_cidr(text: str) -> bool:
    try:
        return str(ipaddress.ip_network(text)) == text
    except ValueError:
        return False


def _is_inside(inner: str, outer: str) -> bool:
    a, b = ipaddress.ip_network(inner), ipaddress.ip_network(outer)
    same = (isinstance(a, ipaddress.IPv4Network) and isinstance(b, ipaddress.IPv4Network) and a.subnet_of(b)) or (
        isinstance(a, ipaddress.IPv6Network) and isinstance(b, ipaddress.IPv6Network) and a.subnet_of(b)
    )
    return same and a != b


CIDR = Annotated[
    str,
    Field(max_length=43),
    Rule(
        "isCIDR(self) && string(cidr(self).masked()) == self",
        "write a range of addresses with no bits beyond its length, such as 10.0.0.0/8, 192.168.1.7/32 or fd00::/8",
        _is_cidr,
    ),
]


class LabelSelectorRequirement(SpecModel):
    """One condition on a label."""

    key: LabelKey = Field(description="Key of the label.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(description="How the label is compared to the values.")
    values: tuple[LabelValue, ...] | None = Field(None, max_length=10, description="Values to compare with In and NotIn.")


Requirement = Annotated[
    LabelSelectorRequirement,
    Rule(
        "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
        "write values with In and NotIn, and none with Exists and DoesNotExist",
        lambda each: (each.operator in ("In", "NotIn")) == bool(each.values),
    ),
]


class LabelSelector(SpecModel):
    """A selector of Kubernetes: all conditions must hold, and an empty one selects everything."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-map-type": "atomic"})

    match_labels: Labels | None = Field(None, description="Labels that must be there with these values.")
    match_expressions: tuple[Requirement, ...] | None = Field(
        None, max_length=3, description="Conditions on labels that all must hold."
    )


class IPBlock(SpecModel):
    """Addresses outside the cluster, such as the LAN."""

    cidr: CIDR = Field(description="Range of addresses, such as 192.168.0.0/16.")
    except_: tuple[CIDR, ...] | None = Field(
        None, alias="except", max_length=16, description="Ranges inside cidr that may not call the model."
    )


class Peer(SpecModel):
    """Who may call the model: pods (podSelector, namespaceSelector or both), or addresses (ipBlock)."""

    pod_selector: LabelSelector | None = Field(
        None, description="Pods with these labels, of the model's namespace or of those that namespaceSelector selects."
    )
    namespace_selector: LabelSelector | None = Field(
        None, description="Namespaces with these labels; {} is every namespace. Without podSelector, all of their pods."
    )
    ip_block: (
        Annotated[
            IPBlock,
            Rule(
                "!has(self.except) || self.except.all(e,"
                " !isCIDR(e) || !isCIDR(self.cidr) || (cidr(self.cidr).containsCIDR(e) && e != self.cidr))",
                "write in except only ranges that lie inside cidr",
                lambda block: all(_is_inside(each, block.cidr) for each in block.except_ or ()),
            ),
        ]
        | None
    ) = None


AllowedPeer = Annotated[
    Peer,
    Rule(
        "has(self.ipBlock) || has(self.podSelector) || has(self.namespaceSelector)",
        "write podSelector, namespaceSelector, both of them, or ipBlock; {namespaceSelector: {}} is the whole cluster",
        lambda peer: bool(peer.ip_block or peer.pod_selector or peer.namespace_selector),
    ),
    Rule(
        "!has(self.ipBlock) || !(has(self.podSelector) || has(self.namespaceSelector))",
        "write ipBlock alone, and selectors in a list item of their own",
        lambda peer: not (peer.ip_block and (peer.pod_selector or peer.namespace_selector)),
    ),
]

"""Who may call the model: the peers of a NetworkPolicy, modelled with limits so that a bad one is refused when it is written.

Only the shape; the policy itself is built in core. What the user left out stays None, so that a dump is exactly what was
written: `peer.model_dump(by_alias=True, exclude_none=True)`.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from localmodel.api.values import LabelKey, Labels, LabelValue, SpecModel, all_of, cel

CIDR = Annotated[
    str,
    Field(
        max_length=43,
        json_schema_extra=cel(
            "isCIDR(self) && string(cidr(self).masked()) == self",
            "write a range of addresses with no bits beyond its length, such as 10.0.0.0/8, 192.168.1.7/32 or fd00::/8",
        ),
    ),
]


class LabelSelectorRequirement(SpecModel):
    """One condition on a label."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            "write values with In and NotIn, and none with Exists and DoesNotExist",
        )
    )

    key: LabelKey = Field(description="Key of the label.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(description="How the label is compared to the values.")
    values: tuple[LabelValue, ...] | None = Field(None, max_length=10, description="Values to compare with In and NotIn.")


class LabelSelector(SpecModel):
    """A selector of Kubernetes: all conditions must hold, and an empty one selects everything."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-map-type": "atomic"})

    match_labels: Labels | None = Field(None, description="Labels that must be there with these values.")
    match_expressions: tuple[LabelSelectorRequirement, ...] | None = Field(
        None, max_length=4, description="Conditions on labels that all must hold."
    )


class IPBlock(SpecModel):
    """Addresses outside the cluster, such as the LAN."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            "!has(self.except) || self.except.all(e,"
            " !isCIDR(e) || !isCIDR(self.cidr) || (cidr(self.cidr).containsCIDR(e) && e != self.cidr))",
            "write in except only ranges that lie inside cidr",
        )
    )

    cidr: CIDR = Field(description="Range of addresses, such as 192.168.0.0/16.")
    except_: tuple[CIDR, ...] | None = Field(
        None, alias="except", max_length=16, description="Ranges inside cidr that may not call the model."
    )


class Peer(SpecModel):
    """Who may call the model: pods (podSelector, namespaceSelector or both), or addresses (ipBlock)."""

    model_config = ConfigDict(
        json_schema_extra=all_of(
            cel(
                "has(self.ipBlock) || has(self.podSelector) || has(self.namespaceSelector)",
                "write podSelector, namespaceSelector, both of them, or ipBlock; {namespaceSelector: {}} is the whole cluster",
            ),
            cel(
                "!has(self.ipBlock) || !(has(self.podSelector) || has(self.namespaceSelector))",
                "write ipBlock alone, and selectors in a list item of their own",
            ),
        )
    )

    pod_selector: LabelSelector | None = Field(
        None, description="Pods with these labels, of the model's namespace or of those that namespaceSelector selects."
    )
    namespace_selector: LabelSelector | None = Field(
        None, description="Namespaces with these labels; {} is every namespace. Without podSelector, all of their pods."
    )
    ip_block: IPBlock | None = None

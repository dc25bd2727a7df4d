"""For every CEL rule of the CRD: specs that it must let pass and specs that it must refuse. Data only.

Read by two tests: tests/cluster/test_crd_api.py asks the real API server, tests/unit/test_parse.py asks our own parser, so that
the two say the same of each value.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

Fields = dict[str, Any]
"""Values by dotted path below spec; REMOVE takes a member out."""
REMOVE = object()


class Case(NamedTuple):
    path: str
    """Where the rule stands in the schema, below spec; `[]` is an item of a list."""
    message: str
    """How the rule's message begins; enough to tell it from others at the same place."""
    good: list[Fields]
    bad: list[Fields]
    parser_judges: bool = True
    """Whether our parser, too, refuses what is bad; of sources, `localmodel run` judges by itself."""


@dataclass(frozen=True)
class NameCase:
    good: tuple[str, ...] = ("q", "qwen-7b", "a" * 40)
    bad: tuple[str, ...] = ("7b", "qwen.7b", "a" * 41, "qwen-")
    message: str = "write a name that a Service can have"


def minimal(name: str = "qwen-7b") -> dict[str, Any]:
    return {
        "apiVersion": "localmodel.dev/v1alpha1",
        "kind": "LocalModel",
        "metadata": {"name": name, "namespace": "llm"},
        "spec": {"model": {"source": {"pvc": {"claimName": "models", "path": "qwen-7b"}}}, "gpu": {"count": 1}},
    }


def with_fields(fields: Fields, name: str = "qwen-7b") -> dict[str, Any]:
    """The minimal object with these fields set."""
    body = minimal(name)
    for path, value in fields.items():
        *parents, last = path.split(".")
        node = body["spec"]
        for parent in parents:
            node = node.setdefault(parent, {})
        if value is REMOVE:
            del node[last]
        else:
            node[last] = deepcopy(value)
    return body


def _peer(**members: Any) -> Fields:
    return {"security.allowFrom": [members]}


def _host(path: str) -> Fields:
    return {"model.source.pvc": REMOVE, "model.source.hostPath": {"path": path}}


def _pair(name: str, request: Any, limit: Any) -> Fields:
    return {f"resources.requests.{name}": request, f"resources.limits.{name}": limit}


def _predict(**more: Any) -> Fields:
    return {"model.task": "Predict", "model.format": "TorchScript", **more}


_GOOD_DURATIONS = ["1ms", "30s", "1m30s", "24h", "86400s", "86400000ms"]
_BAD_DURATIONS = ["0s", "-5s", "1d", "24h1ms", "1.5s", "30", "", "99999h", "9999999999s"]
_GOOD_CPUS: list[Any] = [1, "2", "500m", "0.5", "1k", "1M", 1000000]
_GOOD_BYTES: list[Any] = [8589934592, "8589934592", "8Gi", "1.5Ti", "100M", "1Pi", 2**50]
_BAD_QUANTITIES: list[Any] = [0, -1, "0", "0Gi", "-1", "8GB", "8 Gi", "", "1e3", "abc"]
_GOOD_CIDRS = ["10.0.0.0/8", "192.168.1.7/32", "0.0.0.0/0", "fd00::/8"]
_BAD_CIDRS = ["10.0.0.0", "10.0.0.0/33", "lan", "10.0.0/8", "", "10.0.0.5/8", "fd00:0::/8"]
_BAD_NAMES = ["Models", "models/a", "-models", "mo dels"]
_BAD_KEYS = ["a b", "/zone", "-a", "a/b/c"]
_GOOD_VALUES = ["", "a", "nvme-1_b.C", "9"]
_BAD_VALUES = ["a b", "-a", "a.", "ä", "a/b"]
_KEYS: Fields = {"gateway.auth": {"mode": "APIKey", "secretRef": {"name": "keys"}}}
_TENSOR: Fields = {"name": "x", "datatype": "FP32", "shape": [-1, 4]}
_TOLERATION = {"operator": "Exists", "effect": "NoExecute"}

CASES: list[Case] = [
    Case(
        "",
        "leave out quantization with gpu.count 0",
        [{"quantization": "INT8"}, {"quantization": "INT4", "gpu.count": 2}, {"quantization": "None", "gpu.count": 0}],
        [
            {"quantization": "INT8", "gpu.count": 0},
            {"quantization": "INT4", "gpu.count": 0},
            {"quantization": "INT8", "model.task": "Embedding"},
        ],
    ),
    Case(
        "",
        "leave out runtime.compile with gpu.count 0",
        [{"runtime.compile": "Max"}, {"runtime.compile": "None", "gpu.count": 2}, {"runtime.compile": "Auto", "gpu.count": 0}],
        [
            {"runtime.compile": "Max", "gpu.count": 0},
            {"runtime.compile": "None", "gpu.count": 0},
            {"runtime.compile": "Max", "model.task": "Embedding"},
        ],
    ),
    Case(
        "",
        "write gpu.count 0 or 1 with task Embedding or Predict",
        [_predict(), _predict(**{"gpu.count": 0}), {"gpu.count": 8}, {"model.task": "Embedding", "gpu.count": 1}],
        [_predict(**{"gpu.count": 2}), {"model.task": "Embedding", "gpu.count": 2}],
    ),
    Case(
        "model",
        "write format TorchScript or TorchExport with task Predict",
        [_predict(), _predict(**{"model.format": "TorchExport"}), {"model.task": "Embedding"}],
        [{"model.format": "TorchScript"}, {"model.task": "Predict"}, {"model.task": "Embedding", "model.format": "TorchExport"}],
    ),
    Case(
        "model",
        "leave out config unless the task is Predict",
        [
            _predict(**{"model.config": {"inputs": [_TENSOR], "outputs": [{**_TENSOR, "name": "y"}], "batchDelay": "2ms"}}),
            _predict(),
        ],
        [{"model.config": {}}, {"model.task": "Embedding", "model.config": {"inputs": [_TENSOR]}}],
    ),
    *(
        case
        for side in ("inputs", "outputs")
        for case in (
            Case(
                f"model.config.{side}[].name",
                "write a name of 1 to 64 letters",
                [_predict(**{"model.config": {side: [{**_TENSOR, "name": name}]}}) for name in ("x", "INPUT__0", "a/b:c.d-1")],
                [_predict(**{"model.config": {side: [{**_TENSOR, "name": name}]}}) for name in ("", "a b", "ä", "x\n")],
            ),
            Case(
                f"model.config.{side}[].shape[]",
                "write a size of at least 1, or -1",
                [_predict(**{"model.config": {side: [{**_TENSOR, "shape": shape}]}}) for shape in ([1], [-1, 3, 224, 224])],
                [_predict(**{"model.config": {side: [{**_TENSOR, "shape": shape}]}}) for shape in ([0], [-1, 0])],
            ),
        )
    ),
    Case(
        "model.config.batchDelay",
        "write a duration of more than zero",
        [_predict(**{"model.config": {"batchDelay": text}}) for text in _GOOD_DURATIONS],
        [_predict(**{"model.config": {"batchDelay": text}}) for text in _BAD_DURATIONS],
    ),
    Case(
        "model.source.pvc.claimName",
        "write the name of a Kubernetes object",
        [{"model.source.pvc.claimName": name} for name in ("models", "models-1", "team.models")],
        [{"model.source.pvc.claimName": name} for name in _BAD_NAMES],
    ),
    Case(
        "model.source.pvc.path",
        "write a path relative to the volume's root",
        [{"model.source.pvc.path": path} for path in ("", "qwen", "a/b..c/d", "..a")],
        [{"model.source.pvc.path": path} for path in ("/qwen", "..", "../qwen", "a/../b", "a/..")],
        parser_judges=False,
    ),
    Case(
        "model.source.hostPath.path",
        "write an absolute path",
        [_host("/"), _host("/opt/models"), _host("/opt/..models")],
        [_host("opt/models"), _host("./models"), _host("/opt/../etc"), _host("/..")],
        parser_judges=False,
    ),
    Case(
        "model.source",
        "write exactly one of pvc, hostPath",
        [{}, _host("/opt/models")],
        [{"model.source.pvc": REMOVE}, {"model.source.hostPath": {"path": "/opt/models"}}],
        parser_judges=False,
    ),
    Case(
        "model.servedNames[]",
        "write a name of letters, digits",
        [{"model.servedNames": ["qwen", "Qwen/Qwen2.5:7b_chat-1"]}, {"model.servedNames": []}],
        [{"model.servedNames": [name]} for name in ("qwen 7b", "qwen\n", "qwén", "a,b")],
    ),
    Case(
        "model.version",
        "write a version of one line",
        [{"model.version": version} for version in ("", "2026.11.1", "März, mit Leerzeichen", "v" * 128)],
        [{"model.version": version} for version in ("a\nb", "\t", "\x7f", "a\x00b", "\x90", "a\n")],
    ),
    Case(
        "runtime.image",
        "write the reference of an image in ASCII",
        [{"runtime.image": image} for image in ("", "engine:1.2", "mirror:5000/a/b@sha256:" + "0" * 64)],
        [{"runtime.image": image} for image in (" engine", "engine:1 ", "a b", "a\n", "ä")],
    ),
    Case(
        "gpu",
        "leave out gpu.memory with gpu.count 0",
        [{"gpu.count": 0}, {"gpu.count": 0, "gpu.memory": ""}, {"gpu.memory": "60%"}],
        [{"gpu.count": 0, "gpu.memory": "60%"}, {"gpu.count": 0, "gpu.memory": "8Gi"}],
    ),
    Case(
        "gpu.memory",
        "write a share of each card",
        [{"gpu.memory": cap} for cap in ("1%", "60%", "100%", "60Gi", "0.5Ti", "40G")],
        [{"gpu.memory": cap} for cap in ("0%", "101%", "60", "0Gi", "60 %", "60.5%", "60GB", "80Gb")],
    ),
    Case(
        "gpu.resourceName",
        "write the name of an extended resource",
        [{"gpu.resourceName": name} for name in ("nvidia.com/gpu", "nvidia.com/mig-1g.10gb", "amd.com/gpu")],
        [{"gpu.resourceName": name} for name in ("gpu", "nvidia.com/", "Nvidia.com/gpu", "a/b/c", "nvidia.com/gpu ")],
    ),
    *(
        Case(
            f"resources.{kind}.{name}",
            "write a quantity of more than zero" if name == "cpu" else "write an amount of more than zero bytes",
            [{f"resources.{kind}.{name}": value} for value in (_GOOD_CPUS if name == "cpu" else _GOOD_BYTES)],
            [
                {f"resources.{kind}.{name}": value}
                for value in [*_BAD_QUANTITIES, *(["1001k", 1000001] if name == "cpu" else ["500m", "0.5", "1025Ti", 2**50 + 1])]
            ],
        )
        for kind in ("requests", "limits")
        for name in ("cpu", "memory", "ephemeral-storage")
    ),
    Case(
        "resources",
        "write limits.cpu not below requests.cpu",
        [_pair("cpu", "500m", 1), _pair("cpu", 2, 2), _pair("cpu", "1000m", "1"), {"resources.limits.cpu": "1m"}],
        [_pair("cpu", 2, 1), _pair("cpu", "2", "1500m"), _pair("cpu", 1, "999m"), _pair("cpu", 3, "2")],
    ),
    *(
        Case(
            "resources",
            f"write limits.{name} not below requests.{name}",
            [_pair(name, "500M", "1G"), _pair(name, "1Gi", "1024Mi"), {f"resources.limits.{name}": 1}],
            [_pair(name, "1Gi", "1G"), _pair(name, 2, 1), _pair(name, "2Gi", 1)],
        )
        for name in ("memory", "ephemeral-storage")
    ),
    Case(
        "placement.nodeSelector{}",
        "write a label's value",
        [{"placement.nodeSelector": {"disk": value}} for value in _GOOD_VALUES],
        [{"placement.nodeSelector": {"disk": value}} for value in _BAD_VALUES],
    ),
    Case(
        "placement.tolerations[].value",
        "write a label's value",
        [{"placement.tolerations": [{"key": "gpu", "value": value}]} for value in _GOOD_VALUES],
        [{"placement.tolerations": [{"key": "gpu", "value": value}]} for value in _BAD_VALUES],
    ),
    Case(
        "placement.tolerations[].key",
        "write the key of a label",
        [{"placement.tolerations": [{**_TOLERATION, "key": key}]} for key in ("gpu", "nvidia.com/gpu", "a_b.C")],
        [{"placement.tolerations": [{**_TOLERATION, "key": key}]} for key in _BAD_KEYS],
    ),
    Case(
        "placement.tolerations[]",
        "write a key (operator Exists without one",
        [
            {"placement.tolerations": [each]}
            for each in ({"operator": "Exists"}, {"key": "gpu", "value": "a"}, {"key": "gpu", "operator": "Exists", "value": ""})
        ],
        [
            {"placement.tolerations": [each]}
            for each in ({}, {"operator": "Equal"}, {"value": "a"}, {"key": "gpu", "operator": "Exists", "value": "a"})
        ],
    ),
    Case(
        "placement.tolerations[]",
        "write effect NoExecute with tolerationSeconds",
        [{"placement.tolerations": [{**_TOLERATION, "tolerationSeconds": 60}]}],
        [
            {"placement.tolerations": [{"operator": "Exists", "tolerationSeconds": 60}]},
            {"placement.tolerations": [{"operator": "Exists", "tolerationSeconds": 60, "effect": "NoSchedule"}]},
        ],
    ),
    Case(
        "placement.priorityClassName",
        "write the name of a Kubernetes object",
        [{"placement.priorityClassName": name} for name in ("", "production", "system.high")],
        [{"placement.priorityClassName": name} for name in _BAD_NAMES],
    ),
    *(
        Case(
            f"gateway.timeouts.{name}",
            "write a duration of more than zero",
            [{f"gateway.timeouts.{name}": text} for text in _GOOD_DURATIONS],
            [{f"gateway.timeouts.{name}": text} for text in _BAD_DURATIONS],
        )
        for name in ("queue", "firstToken", "idle", "total")
    ),
    Case(
        "gateway.breaker.openFor",
        "write a duration of more than zero",
        [{"gateway.breaker.openFor": text} for text in _GOOD_DURATIONS],
        [{"gateway.breaker.openFor": text} for text in _BAD_DURATIONS],
    ),
    Case(
        "gateway.concurrency.queueBytes",
        "write an amount from 8Mi, the largest body of a request, to 1Ti",
        [{"gateway.concurrency.queueBytes": value} for value in ("8Mi", "9M", 8388608, "0.5Gi", "1Ti", 1099511627776)],
        [
            {"gateway.concurrency.queueBytes": value}
            for value in ("8M", 8388607, 0, "0", "2Ti", 1099511627777, "1Pi", "64m", "64 Mi", "-64Mi", "many")
        ],
    ),
    Case(
        "gateway.auth",
        "write secretRef.name with mode APIKey",
        [{}, _KEYS, {"gateway.auth": {"mode": "None"}}, {"gateway.auth": {}}],
        [{"gateway.auth": {"mode": "APIKey"}}],
    ),
    Case(
        "gateway.auth",
        "write mode APIKey with secretRef",
        [_KEYS],
        [{"gateway.auth": {"mode": "None", "secretRef": {"name": "keys"}}}, {"gateway.auth": {"secretRef": {"name": "keys"}}}],
    ),
    Case(
        "gateway.auth.secretRef.name",
        "write the name of a Kubernetes object",
        [{"gateway.auth": {"mode": "APIKey", "secretRef": {"name": name}}} for name in ("keys", "team.keys-1")],
        [{"gateway.auth": {"mode": "APIKey", "secretRef": {"name": name}}} for name in _BAD_NAMES],
    ),
    Case(
        "gateway",
        "write auth.mode APIKey with limits of a named key",
        [
            {"gateway.limits": [{"key": "*", "rpm": 1}]},
            {"gateway.limits": []},
            {**_KEYS, "gateway.limits": [{"key": "*"}, {"key": "team-a", "rpm": 1, "tpm": 1, "maxConcurrent": 1}]},
        ],
        [
            {"gateway.limits": [{"key": "team-a", "rpm": 1}]},
            {"gateway.auth": {"mode": "None"}, "gateway.limits": [{"key": "*"}, {"key": "team-a"}]},
        ],
    ),
    Case(
        "gateway.limits[].key",
        "write the name of a key as it stands in the Secret",
        [{**_KEYS, "gateway.limits": [{"key": key}]} for key in ("*", "team-a", "_Team.A-1", "0")],
        [{**_KEYS, "gateway.limits": [{"key": key}]} for key in ("", ".a", "..data", "a b", "a*", "**", "a/b", "ä", "a\n")],
    ),
    Case(
        "gateway.limits[].models[]",
        "write one of the names that spec.model.servedNames has",
        [{"gateway.limits": [{"key": "*", "models": ["qwen", "Qwen/Qwen2.5:7b_chat-1"]}]}],
        [{"gateway.limits": [{"key": "*", "models": [name]}]} for name in ("", "qwen 7b", "a,b")],
    ),
    Case(
        "gateway.logging",
        "leave out file with mode None",
        [{"gateway.logging": {"mode": "Full", "file": {}}}, {"gateway.logging": {"file": {}}}, {"gateway.logging.mode": "None"}],
        [{"gateway.logging": {"mode": "None", "file": {}}}, {"gateway.logging": {"mode": "None", "file": {"maxFiles": 2}}}],
    ),
    Case(
        "gateway.logging.redactPatterns[]",
        "write a regular expression in RE2 syntax",
        [{"gateway.logging.redactPatterns": [each]} for each in ("EMP-[0-9]{6}", r"(?i)\bsecret: \S+", "工号：[0-9]+", "^a$")],
        [{"gateway.logging.redactPatterns": [each]} for each in ("(abc", "[a", "(?=a)", r"(a)\1", "a*", "", "a{2001}")],
    ),
    Case(
        "gateway.logging.file.maxSize",
        "write an amount from 1Mi to 10Gi",
        [{"gateway.logging.file.maxSize": size} for size in ("1Mi", "64Mi", "10Gi", 1048576, "100M")],
        [{"gateway.logging.file.maxSize": size} for size in ("1023Ki", "11Gi", 1048575, "0", "64MB", "-1", "", 10737418241)],
    ),
    Case(
        "gateway.logging.chainKeyRef.name",
        "write the name of a Kubernetes object",
        [{"gateway.logging.chainKeyRef.name": name} for name in ("log-key", "team.keys")],
        [{"gateway.logging.chainKeyRef.name": name} for name in _BAD_NAMES],
    ),
    Case(
        "security.allowFrom[]",
        "write podSelector, namespaceSelector, both of them, or ipBlock",
        [_peer(namespaceSelector={}), _peer(podSelector={}), _peer(podSelector={}, namespaceSelector={})],
        [_peer()],
    ),
    Case(
        "security.allowFrom[]",
        "write ipBlock alone",
        [_peer(ipBlock={"cidr": "10.0.0.0/8"})],
        [_peer(ipBlock={"cidr": "10.0.0.0/8"}, **{selector: {}}) for selector in ("podSelector", "namespaceSelector")],
    ),
    Case(
        "security.allowFrom[].ipBlock",
        "write in except only ranges that lie inside cidr",
        [_peer(ipBlock={"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.2.3.4/32"]})],
        [_peer(ipBlock={"cidr": "10.0.0.0/8", "except": [each]}) for each in ("11.0.0.0/16", "10.0.0.0/8", "fd00::/16")],
    ),
    Case(
        "security.allowFrom[].ipBlock.cidr",
        "write a range of addresses",
        [_peer(ipBlock={"cidr": cidr}) for cidr in _GOOD_CIDRS],
        [_peer(ipBlock={"cidr": cidr}) for cidr in _BAD_CIDRS],
    ),
    Case(
        "security.allowFrom[].ipBlock.except[]",
        "write a range of addresses",
        [_peer(ipBlock={"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]})],
        [_peer(ipBlock={"cidr": "10.0.0.0/8", "except": [cidr]}) for cidr in _BAD_CIDRS],
    ),
    *(
        case
        for selector in ("podSelector", "namespaceSelector")
        for case in (
            Case(
                f"security.allowFrom[].{selector}.matchLabels{{}}",
                "write a label's value",
                [_peer(**{selector: {"matchLabels": {"a": value}}}) for value in _GOOD_VALUES],
                [_peer(**{selector: {"matchLabels": {"a": value}}}) for value in _BAD_VALUES],
            ),
            Case(
                f"security.allowFrom[].{selector}.matchExpressions[].values[]",
                "write a label's value",
                [_peer(**{selector: {"matchExpressions": [{"key": "a", "operator": "In", "values": _GOOD_VALUES}]}})],
                [_peer(**{selector: {"matchExpressions": [{"key": "a", "operator": "In", "values": [v]}]}}) for v in _BAD_VALUES],
            ),
            Case(
                f"security.allowFrom[].{selector}.matchExpressions[].key",
                "write the key of a label",
                [_peer(**{selector: {"matchExpressions": [{"key": "example.com/a", "operator": "Exists"}]}})],
                [_peer(**{selector: {"matchExpressions": [{"key": key, "operator": "Exists"}]}}) for key in _BAD_KEYS],
            ),
            Case(
                f"security.allowFrom[].{selector}.matchExpressions[]",
                "write values with In and NotIn",
                [
                    _peer(**{selector: {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}}),
                    _peer(**{selector: {"matchExpressions": [{"key": "a", "operator": "Exists", "values": []}]}}),
                ],
                [
                    _peer(**{selector: {"matchExpressions": [{"key": "a", "operator": "In"}]}}),
                    _peer(**{selector: {"matchExpressions": [{"key": "a", "operator": "NotIn", "values": []}]}}),
                    _peer(**{selector: {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}}),
                ],
            ),
        )
    ),
]

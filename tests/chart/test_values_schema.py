"""A typo in a value is refused at install, and the refusal names the key. What is documented is accepted."""

import jsonschema
import pytest
import yaml

from chart.conftest import CHART, RELEASE
from generators.values_schema import build_schema

WRONG = {
    "replica: 2": "replica",
    "replicas: two": "/replicas",
    "replicas: -1": "/replicas",
    "image: {registry: lan}": "registry",
    "image: {tag: 1.10}": "/image/tag",
    "image: {digest: latest}": "/image/digest",
    "image: {pullPolicy: Sometimes}": "/image/pullPolicy",
    "image: {pullSecrets: [registry]}": "/image/pullSecrets/0",
    "config: {resyncSecond: 60}": "resyncSecond",
    "config: {resync_seconds: 60}": "resync_seconds",
    "config: {resyncSeconds: soon}": "/config/resyncSeconds",
    "config: {images: {operator: x}}": "operator",
    "config: {images: {triton: ''}}": "/config/images/triton",
    "config: {images: null}": "images",
    "config: {lease: {durationSecond: 3}}": "durationSecond",
    "config: {queue: {workers: 0}}": "/config/queue/workers",
    "config: {engine: {memoryBase: lots}}": "/config/engine/memoryBase",
    "config: {logLevel: debug}": "/config/logLevel",
    "config: {networkPolicy: {monitoringPeers: [{ipBloc: {}}]}}": "ipBloc",
    "config: {namespace: other}": "namespace",
    "config: {watchNamespaces: ['team-*']}": "/config/watchNamespaces/0",
    "config: {watchNamespaces: ['']}": "/config/watchNamespaces/0",
    "config: {watchNamespaces: [llm, llm]}": "/config/watchNamespaces",
    "config: {server: {metricsPort: 1}}": "server",
    "resources: {limit: {}}": "limit",
    "resources: {limits: {gpu: 1}}": "gpu",
    "tolerations: [{key: a, efect: NoSchedule}]": "efect",
    "affinity: {podAffinities: {}}": "podAffinities",
    "nodeSelector: {pool: 1}": "/nodeSelector/pool",
    "crds: {keep: true}": "keep",
    "rbac: {enabled: true}": "enabled",
    "serviceAccount: {name: ''}": "/serviceAccount/name",
    "networkPolicy: {apiServerPorts: [https]}": "/networkPolicy/apiServerPorts/0",
    "monitoring: {alerts: true}": "alerts",
    "monitoring: null": "'monitoring'",
    "rbac: null": "'rbac'",
    "networkPolicy: null": "'networkPolicy'",
    "crds: null": "'crds'",
}


@pytest.mark.parametrize(("text", "named"), WRONG.items(), ids=WRONG.keys())
def test_a_wrong_value_is_refused_by_its_name(text, named, helm):
    result = helm.run("template", RELEASE, str(CHART), values=yaml.safe_load(text))
    assert result.returncode != 0
    assert named in result.stderr


def test_the_schema_is_a_schema():
    jsonschema.Draft7Validator.check_schema(build_schema())


def test_every_value_has_a_default_and_no_default_is_unknown():
    """values.yaml is the documentation: a key that only the schema knows would be a secret."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    jsonschema.validate(values, build_schema())

    def compare(schema, value, path):
        known = set(schema.get("properties", ())) - {"global"}
        assert known == set(value), path
        for name in known - {"config", "affinity"}:
            if "properties" in schema["properties"][name] and name not in ("requests", "limits"):
                compare(schema["properties"][name], value[name], f"{path}.{name}")

    compare(build_schema(), values, "values")


def test_every_object_with_known_keys_refuses_others():
    def walk(schema, path):
        if isinstance(schema, list):
            for at, each in enumerate(schema):
                walk(each, f"{path}/{at}")
        elif isinstance(schema, dict):
            if isinstance(schema.get("properties"), dict) and "type" in schema:
                assert schema.get("additionalProperties") is False, path
            for name, each in schema.items():
                walk(each, f"{path}/{name}")

    walk(build_schema(), "")

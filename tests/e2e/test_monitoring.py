"""Dashboards and alert rules: each of their queries runs on a real Prometheus that scrapes this cluster."""

import time
from pathlib import Path
from typing import Any

import pytest

from chart.prometheus import Prometheus, Target, scrape
from e2e.load import Load
from e2e.world import World
from localmodel.api import constants
from localmodel.monitoring.alerts import ALERTS
from localmodel.monitoring.queries import list_queries

PATIENCE = 60
"""Seconds. Shares need a request that ended between two scrapes, and a busy machine is slow to answer one."""


def targets_of(pods: list[dict[str, Any]], port: int, **labels: str) -> list[Target]:
    """A pod's metrics, with the labels that Kubernetes discovery would add."""
    found = []
    for pod in pods:
        metadata = pod["metadata"]
        extra = {"namespace": metadata["namespace"], "pod": metadata["name"], **labels}
        found.append(Target(f"{pod['status']['podIP']}:{port}", extra))
    return found


@pytest.mark.usefixtures("local")
def test_every_query_runs_on_a_real_prometheus_of_this_cluster(world: World, chat: str, tmp_path: Path) -> None:
    operators = [pod for pod in world.operator_pods() if "deletionTimestamp" not in pod["metadata"]]
    targets = targets_of(operators, constants.OPERATOR_METRICS_PORT)
    targets += targets_of(world.pods(chat), constants.ADMIN_PORT, localmodel=chat)
    with Load(world, chat), Prometheus(tmp_path, [scrape(targets)]) as prometheus:
        prometheus.wait_until_scraped(len(targets))
        asked = [query for query in list_queries() if query.where not in {alert.name for alert in ALERTS}]
        until = time.monotonic() + PATIENCE
        while empty := [query.where for query in asked if not prometheus.query(query.expression)]:
            assert time.monotonic() < until, empty
            time.sleep(2)
        ready = prometheus.query("localmodel_gateway_ready")
        leaders = prometheus.query("sum(localmodel_operator_leader)")
    assert [sample["value"][1] for sample in ready] == ["1"]
    assert [sample["value"][1] for sample in leaders] == ["1"]

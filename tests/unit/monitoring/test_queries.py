"""Queries against the declared metrics: nothing undeclared is asked for, nothing declared is left unseen."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from localmodel.api.metrics import GATEWAY_LOOP_LAG_SECONDS, GATEWAY_METRICS, GATEWAY_REQUESTS, OPERATOR_METRICS
from localmodel.monitoring.promql import aggregate, quantile, select
from localmodel.monitoring.queries import list_queries

DECLARED = {metric.name: metric for metric in (*GATEWAY_METRICS, *OPERATOR_METRICS)}


def series_names() -> set[str]:
    series = {name for name, metric in DECLARED.items() if metric.kind != "histogram"}
    histograms = (name for name, metric in DECLARED.items() if metric.kind == "histogram")
    return series | {name + suffix for name in histograms for suffix in ("_bucket", "_count", "_sum")}


@pytest.mark.parametrize("query", list(list_queries()), ids=lambda query: query.where)
def test_every_query_asks_for_declared_series_only(query):
    asked = set(re.findall(r"localmodel_\w+", query.expression))
    assert asked
    assert asked <= series_names()


def test_every_declared_metric_is_shown_somewhere():
    text = "\n".join(query.expression for query in list_queries())
    unseen = [name for name in DECLARED if not re.search(rf"\b{name}(_bucket|_count|_sum)?\b", text)]
    assert unseen == []


def test_no_variable_of_grafana_is_left_in_a_listed_query():
    assert [query.where for query in list_queries() if "$" in query.expression] == []


def test_places_are_told_apart():
    places = [query.where for query in list_queries()]
    assert len(places) == len(set(places))


def test_a_label_the_metric_does_not_have_is_refused():
    with pytest.raises(ValueError, match=r"localmodel_gateway_requests_total has no label 'code'"):
        select(GATEWAY_REQUESTS, ('code!~"5.."',))
    with pytest.raises(ValueError, match="no label 'endpoint'"):
        aggregate("sum", ("endpoint",), GATEWAY_LOOP_LAG_SECONDS)


def test_a_quantile_of_a_gauge_is_refused():
    with pytest.raises(ValueError, match="is a gauge, not a histogram"):
        quantile(0.5, (), GATEWAY_LOOP_LAG_SECONDS)


def test_the_command_prints_what_is_listed():
    source = Path(__file__).resolve().parents[3] / "operator"
    command = [sys.executable, "-m", "localmodel.monitoring", "queries", "--window", "30s"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(source)})
    assert [json.loads(line) for line in result.stdout.splitlines()] == [query._asdict() for query in list_queries("30s")]
    assert "[30s]" in result.stdout

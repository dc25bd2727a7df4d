"""All queries of dashboards and alerts on a real Prometheus that scrapes a sample of every declared metric.

A query that Prometheus refuses, or that matches nothing there, would be an empty panel.
"""

import http.server
import itertools
import threading

from chart.prometheus import Prometheus, Target, scrape
from localmodel.api.metrics import GATEWAY_METRICS, OPERATOR_METRICS, Metric
from localmodel.monitoring.alerts import ALERTS
from localmodel.monitoring.queries import list_queries


def test_every_query_has_an_answer_from_a_real_prometheus(tmp_path):
    values = itertools.count(1)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            value = next(values)
            self.wfile.write("".join(expose(metric, value) for metric in (*GATEWAY_METRICS, *OPERATOR_METRICS)).encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        target = Target(f"127.0.0.1:{server.server_port}", {"namespace": "llm", "pod": "qwen-0", "localmodel": "qwen"})
        with Prometheus(tmp_path, [scrape([target])]) as prometheus:
            prometheus.wait_until_scraped(1)
            empty = [
                query.where
                for query in list_queries()
                if query.where not in {alert.name for alert in ALERTS} and not prometheus.query(query.expression)
            ]
            for alert in ALERTS:
                prometheus.query(alert.expression)
        server.shutdown()
    assert empty == []


def expose(metric: Metric, value: int) -> str:
    """A metric in Prometheus' text format, with one value for each label."""
    known = {"outcome": "ok", "namespace": "llm", "name": "qwen"}
    labels = [f'{label}="{known.get(label, "a")}"' for label in metric.labels]
    samples = [(metric.name, labels)]
    if metric.kind == "histogram":
        samples = [(f"{metric.name}_{part}", labels) for part in ("count", "sum")]
        samples += [(f"{metric.name}_bucket", [*labels, f'le="{limit}"']) for limit in (*metric.buckets, "+Inf")]
    return "".join(f"{name}{{{', '.join(braces)}}} {value}\n" for name, braces in samples)

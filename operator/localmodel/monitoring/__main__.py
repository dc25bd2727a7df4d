"""`python -m localmodel.monitoring queries [--window 5m]`: one JSON object per line, {"where", "expression"}."""

import argparse
import json

from localmodel.monitoring.queries import list_queries


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m localmodel.monitoring", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    queries = commands.add_parser("queries", help="every query of the dashboards and alert rules")
    queries.add_argument("--window", default="5m", help="what Grafana's $__rate_interval becomes (default: 5m)")
    arguments = parser.parse_args()
    for query in list_queries(arguments.window):
        print(json.dumps(query._asdict()))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""The command line of the local cluster: `python3 hack/cluster/main.py up|down|status|build|...`.

Parses arguments and turns "this machine can't" into exit status 3; decides nothing else.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from cluster import apiserver, lifecycle  # noqa: E402
from cluster.build import build_tools, select_tools  # noqa: E402
from cluster.layout import Layout  # noqa: E402
from cluster.record import Record  # noqa: E402
from cluster.report import CANNOT_RUN_HERE, Unavailable  # noqa: E402
from cluster.requirements import install_packages  # noqa: E402


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    layout = Layout.from_environment()
    try:
        return _run(layout, options)
    except Unavailable as error:
        print(error, file=sys.stderr)
        return CANNOT_RUN_HERE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _run(layout: Layout, options: argparse.Namespace) -> int:
    match options.command:
        case "up":
            lifecycle.up(layout)
        case "down":
            lifecycle.down(layout, unrecorded=options.unrecorded)
        case "status":
            return _status(layout)
        case "build":
            tools = select_tools(options.only)
            if os.geteuid() == 0 and any(tool.cgo for tool in tools):
                install_packages()
            build_tools(layout, tools)
        case "stop":
            lifecycle.stop_process(layout, options.name, signal.SIGKILL if options.kill else signal.SIGTERM)
        case "start":
            lifecycle.start_process(layout, options.name)
        case "apiserver":
            build_tools(layout, select_tools(["etcd", "kubernetes"]))
            return apiserver.serve(layout, options.dir)
    return 0


def _status(layout: Layout) -> int:
    record = Record.load(layout.record)
    if record is None:
        print("no cluster")
        return 1
    found = lifecycle.problems(layout, record)
    print("\n".join(found) if found else f"healthy: KUBECONFIG={layout.kubeconfig}")
    return 1 if found else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hack/cluster/main.py", description="The local two-node Kubernetes cluster.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="build what is missing, make the cluster, wait until it is ready")
    down = commands.add_parser("down", help="remove everything the cluster made on this machine")
    down.add_argument("--unrecorded", action="store_true", help="go by our names when the record was lost")
    commands.add_parser("status", help="say whether the cluster is healthy; exit status 1 when not")
    build = commands.add_parser("build", help="build programs into the cache")
    build.add_argument("--only", nargs="+", metavar="NAME", help="these instead of all")
    stop = commands.add_parser("stop", help="end one recorded process (fault injection)")
    stop.add_argument("name")
    stop.add_argument("--kill", action="store_true", help="SIGKILL at once")
    start = commands.add_parser("start", help="start a stopped process again")
    start.add_argument("name")
    only_api = commands.add_parser("apiserver", help="etcd and an API server alone, in the foreground, unprivileged")
    only_api.add_argument("--dir", type=Path, required=True, help="where certificates, data, logs and kubeconfig go")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

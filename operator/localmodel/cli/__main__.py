"""`localmodel`: run one model without a cluster, or check its YAML. Only reads the command line; the work is elsewhere."""

import argparse
import importlib.metadata
import sys
from pathlib import Path

from localmodel.api.constants import ADMIN_PORT, SERVING_PORT
from localmodel.cli.document import read_localmodel
from localmodel.cli.launch import RunOptions
from localmodel.cli.problems import Problem
from localmodel.cli.run import run


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="localmodel", description="Serve language models on your own machines.")
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("run", help="serve one LocalModel as plain processes, without root and without a cluster")
    start.add_argument("file", type=Path, help="YAML file with a LocalModel")
    start.add_argument(
        "--claim", action="append", default=[], metavar="NAME=DIR",
        help="directory that stands for a PersistentVolumeClaim; may be repeated (default: models=~/.cache/localmodel/models)",
    )  # fmt: skip
    start.add_argument("--port", type=_port, default=SERVING_PORT, help="port of the OpenAI API (default: %(default)s)")
    start.add_argument("--admin-port", type=_port, default=ADMIN_PORT, help="port of /status, /metrics (default: %(default)s)")
    start.add_argument("--ask", metavar="QUESTION", help="when ready, ask once, print the answer and end")
    start.add_argument("--logs", type=Path, metavar="DIR", help="keep the logs there (default: a directory removed at the end)")
    check = commands.add_parser("validate", help="check the YAML file of a LocalModel; starts nothing")
    check.add_argument("file", type=Path, help="YAML file with a LocalModel")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Exit codes: 0 done, 1 it failed while running, 2 something to put right first, 130 interrupted twice."""
    options = build_parser().parse_args(arguments)
    try:
        if options.command == "validate":
            model, notes = read_localmodel(options.file)
            print("\n".join([*notes, f"{options.file}: LocalModel {model.name} is valid."]))
            return 0
        return run(RunOptions(options.file, tuple(options.claim), options.port, options.admin_port, options.ask, options.logs))
    except Problem as problem:
        print(problem, file=sys.stderr)
        return problem.exit_code


def _port(text: str) -> int:
    if not (text.isdigit() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text} is not a port; write a number from 1 to 65535")
    return int(text)


def _version() -> str:
    try:
        return importlib.metadata.version("localmodel-operator")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    sys.exit(main())

"""`localmodel`: run one model without a cluster, check its YAML, or make an API key.

It only reads the command line; the work is elsewhere.
"""

import argparse
import importlib.metadata
import os
import sys
from pathlib import Path
from typing import Any

from localmodel.api.constants import ADMIN_PORT, SERVING_PORT
from localmodel.cli.document import read_localmodel
from localmodel.cli.key import KeyOptions, create_key
from localmodel.cli.launch import RunOptions
from localmodel.cli.problems import Problem
from localmodel.cli.run import run
from localmodel.cli.verify_log import VerifyOptions, verify_log

UNREAD = 141
"""As of a program that a shell's pipe has ended."""


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
    start.add_argument(
        "--keys", type=Path, metavar="DIR", help="directory of API keys, where spec.gateway.auth asks for them (see `key create`)"
    )
    check = commands.add_parser("validate", help="check the YAML file of a LocalModel; starts nothing")
    check.add_argument("file", type=Path, help="YAML file with a LocalModel")
    _add_key(commands)
    _add_verify_log(commands)
    return parser


def _add_verify_log(commands: Any) -> None:
    verify = commands.add_parser("verify-log", help="check that nobody edited, removed, swapped or added a line of a request log")
    verify.add_argument("files", type=Path, nargs="+", metavar="FILE", help="log files in any order, their directory, or -")
    verify.add_argument("--running", action="store_true", help="the gateway still writes, so that the log has no end yet")
    verify.add_argument("--key-file", type=Path, help="the key that the chain was made with, if it was")
    verify.add_argument("--expect", metavar="HASH", help="hash of a line that was noted earlier and must still be there")


def _add_key(commands: Any) -> None:
    verbs = commands.add_parser("key", help="API keys").add_subparsers(dest="verb", required=True)
    create = verbs.add_parser("create", help="make a new API key; prints it once, and what to store of it")
    create.add_argument("name", help="name of the key in the Secret, in limits and in the log, such as team-a")
    create.add_argument("--secret", default="api-keys", help="name of the Secret (default: %(default)s)")
    create.add_argument("-n", "--namespace", default="default", help="its namespace (default: %(default)s)")
    create.add_argument("--rpm", type=_positive, help="requests per minute and replica, for spec.gateway.limits")
    create.add_argument("--tpm", type=_positive, help="tokens per minute and replica")
    create.add_argument("--max-concurrent", type=_positive, help="requests at once per replica")
    create.add_argument("--model", action="append", default=[], help="served name that the key may use; may be repeated")
    create.add_argument("--into", type=Path, metavar="DIR", help="write the hash there, for `localmodel run --keys DIR`")


def main(arguments: list[str] | None = None) -> int:
    """Exit codes: 0 done, 1 it failed while running, 2 something to put right first, 130 interrupted twice, 141 nobody reads
    what it says."""
    try:
        status = _main(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends
        return UNREAD
    return status


def _main(arguments: list[str] | None) -> int:
    options = build_parser().parse_args(arguments)
    try:
        if options.command == "validate":
            model, notes = read_localmodel(options.file)
            print("\n".join([*notes, f"{options.file}: LocalModel {model.name} is valid."]))
            return 0
        if options.command == "key":
            limits = (options.rpm, options.tpm, options.max_concurrent, tuple(options.model))
            print(create_key(KeyOptions(options.name, options.secret, options.namespace, *limits, options.into)))
            return 0
        if options.command == "verify-log":
            return verify_log(VerifyOptions(tuple(options.files), options.key_file, options.running, options.expect))
        claims, ports = tuple(options.claim), (options.port, options.admin_port)
        return run(RunOptions(options.file, claims, *ports, options.ask, options.logs, options.keys))
    except Problem as problem:
        print(problem, file=sys.stderr)
        return problem.exit_code


def _port(text: str) -> int:
    if not (text.isdigit() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text} is not a port; write a number from 1 to 65535")
    return int(text)


def _positive(text: str) -> int:
    if not (text.isdigit() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return int(text)


def _version() -> str:
    try:
        return importlib.metadata.version("localmodel-operator")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    sys.exit(main())
